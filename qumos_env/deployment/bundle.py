"""The bundle of a design: one folder per provider with nothing but its own part, and the owner's secret folder.

    manifest.json           what this is, figures, and a checksum of every other file
    providers/<name>/       part-<i>.json (Cirq), part-<i>.qasm (OpenQASM 3): trained angles bound, features x<qubit> open
    owner/                  design.json, preprocessing.json, head.json, assembly.json

A part that gate cuts touch is one circuit per variant, part-<i>-<labels>: its labels in the order of the cuts, an M as a CX to an
ancilla. The providers' files hold no trace of the angles of the cuts; these are in assembly.json, with what the owner needs to combine
the results.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cirq
import numpy as np

from ..data import Preprocessor
from ..design import Design
from ..design.circuits import bind, input_symbol, weight_symbol
from ..design.gate_cuts import LABELS, CutPart, Variant, coefficients, cut_angles, cut_parts
from ..errors import QumosError
from ..evaluation.workload import Workload
from ..files import check_target, new_folder, write_text
from ..model.cutting.estimator import recombined
from ..model.heads import make_head, softmax
from ..model.training import Parameters
from ..scenario import Scenario
from .qasm import to_openqasm3

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
_OWNER_FILES = tuple(f"owner/{name}.json" for name in ("assembly", "design", "head", "preprocessing"))
_RECOMBINATION = {
    "decomposition": "RZZ of Mitarai and Fujii, New J. Phys. 23, 023021 (2021)",
    "estimator": "product of means, every variant run equally often",
    "labels": list(LABELS),
}


def export_bundle(
    design: Design, scenario: Scenario, out: str | Path, *, seed: int | None = None, force: bool = False, workload: Workload | None = None
) -> Path:
    """Trains ``design`` on draw 0 of ``seed`` and writes its bundle to the folder ``out``.

    Args:
        design: a design within the scenario's limits.
        scenario: the scenario.
        out: a new or empty folder; with ``force`` an earlier bundle is replaced.
        seed: evaluation seed, default the scenario's.
        force: see ``out``.
        workload: the scenario's workload, where the caller has it already.

    Raises:
        QumosError: the design breaks the limits, or ``out`` exists with other content.
        EvaluationFailure: training diverged.
    """
    scenario.check_design(design)
    check_target(Path(out), marker=MANIFEST, force=force)
    workload = workload or Workload(scenario)
    seed = scenario.seed if seed is None else seed
    draw = workload.draws(seed, "test")[0]
    model = workload.model(design)
    trained = model.train(draw.train, draw.train_labels, draw.key)
    accuracy = float(np.mean(model.probabilities(trained, draw.score).argmax(axis=1) == draw.score_labels))
    rows = workload.protocol.draws(seed)[0].train
    facts = {"seed": seed, "train_rows": len(rows), "test_accuracy": accuracy, "test_rows": len(draw.score_labels)}
    return write_bundle(out, design, workload, trained, workload.owner(rows), facts, force=force)


def write_bundle(
    out: str | Path,
    design: Design,
    workload: Workload,
    trained: Parameters,
    preprocessor: Preprocessor,
    facts: Mapping[str, object],
    *,
    force: bool = False,
) -> Path:
    """Writes the bundle of a trained model; it appears complete or not at all.

    Args:
        out: a new or empty folder; with ``force`` an earlier bundle is replaced.
        design: the design.
        workload: of the scenario.
        trained: angles and head of one model of ``design``.
        preprocessor: raw features to encoded angles, as the model was trained.
        facts: what the manifest says besides scenario, design and checksums; plain JSON.
        force: see ``out``.

    Raises:
        QumosError: ``out`` exists with other content or cannot be written, or too many gate cuts to recombine.
    """
    scenario = workload.scenario
    parts, secret = cut_parts(design, scenario.data.axis), cut_angles(design)
    local = {weight_symbol(index): value for index, value in enumerate(trained.angles) if index not in secret}
    with new_folder(out, marker=MANIFEST, force=force) as folder:
        for part in parts:
            home = folder / "providers" / part.provider
            for variant in part.variants:
                circuit = bind(variant.circuit, local)
                name = _circuit_name(part.index, variant.labels)
                write_text(home / f"{name}.json", cirq.to_json(circuit))
                write_text(home / f"{name}.qasm", to_openqasm3(circuit, list(variant.qubits)))
        owner = folder / "owner"
        _write_json(owner / "design.json", design.to_dict())
        _write_json(owner / "preprocessing.json", preprocessor.to_dict())
        _write_json(owner / "head.json", {"kind": scenario.model.head, "parameters": trained.head.tolist()})
        _write_json(owner / "assembly.json", _assembly(design, parts, trained.angles[list(secret)], workload.protocol.dataset.class_names))
        files = {str(path.relative_to(folder)): _checksum(path) for path in sorted(folder.rglob("*")) if path.is_file()}
        _write_json(
            folder / MANIFEST,
            {
                "schema_version": SCHEMA_VERSION,
                "kind": "qumos-bundle",
                "scenario": scenario.name,
                "scenario_hash": scenario.hash,
                "design_hash": design.hash,
                "files": files,
                **facts,
            },
        )
    return Path(out)


def _assembly(design: Design, parts: Sequence[CutPart], angles: np.ndarray, classes: Sequence[str]) -> dict[str, object]:
    """What the owner needs to put the results of the parts together; ``angles`` are those of the gate cuts."""
    assembly: dict[str, object] = {
        "classes": list(classes),
        "n_qubits": design.n_qubits,
        "parts": [
            {"part": part.index, "provider": part.provider, "qubits": list(part.qubits), "readout": "Z on every qubit"} for part in parts
        ],
    }
    if design.cut_gates:
        ancillas = {cut: ancilla.x for part in parts for cut, ancilla in zip(part.cuts, part.ancillas, strict=True)}
        assembly["recombination"] = _RECOMBINATION
        assembly["cuts"] = [
            {
                "gate": placed.gate.name,
                "angle": float(angle),
                "qubits": list(placed.gate.qubits),
                "parts": [design.partition[qubit] for qubit in placed.gate.qubits],
                "ancilla": ancillas[number],
            }
            for number, (placed, angle) in enumerate(zip(design.cut_gates, angles, strict=True))
        ]
    return assembly


@dataclass(frozen=True)
class BundlePart:
    """What the provider of one part runs.

    Attributes:
        index, provider, qubits: as in the design's part.
        cuts: numbers of the gate cuts that touch it.
        variants: trained angles bound, features open; by labels in the order of ``product(LABELS, repeat=len(cuts))``, so just one circuit
            where no cut touches the part.
    """

    index: int
    provider: str
    qubits: tuple[int, ...]
    cuts: tuple[int, ...]
    variants: tuple[Variant, ...]

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Exact results of all variants for encoded ``inputs`` ``[rows, n_qubits]`` of the register, on Cirq's own simulator.

        Returns:
            ``[rows, variants, 1 + qubits of the part]``: the mean sign of the M, then that sign times Z of every qubit.
        """
        simulator = cirq.Simulator(dtype=np.complex128)
        queries = [{input_symbol(qubit): float(row[qubit]) for qubit in self.qubits} for row in inputs]
        results = []
        for variant in self.variants:
            line, ancillas = variant.qubits[: len(self.qubits)], variant.qubits[len(self.qubits) :]
            sign: cirq.PauliString[cirq.LineQubit] = cirq.PauliString(dict.fromkeys(ancillas, cirq.Z))
            readout = [sign, *(sign * cirq.Z(qubit) for qubit in line)]
            results.append(simulator.simulate_expectation_values_sweep(variant.circuit, readout, queries, qubit_order=variant.qubits))
        return np.real(results).transpose(1, 0, 2)


@dataclass(frozen=True)
class Bundle:
    """A bundle read back: what the owner and the providers together need to answer a query.

    Attributes:
        manifest: the manifest.
        classes: class names in the order of probabilities.
        preprocessor: raw features to encoded angles.
        parts: what the providers run, in the design's order.
        cut_angles: of the gate cuts, in radians, in the order of ``design.cut_gates``.
        head: ⟨Z⟩ ``[rows, n_qubits]`` to logits.
        head_parameters: of the head, flat.
        n_qubits: width of the register.
        design: the design.
    """

    manifest: dict[str, object]
    classes: tuple[str, ...]
    preprocessor: Preprocessor
    parts: tuple[BundlePart, ...]
    cut_angles: tuple[float, ...]
    head: Callable[[np.ndarray], np.ndarray]
    head_parameters: np.ndarray
    n_qubits: int
    design: Design

    @property
    def circuits(self) -> tuple[tuple[tuple[int, ...], cirq.Circuit], ...]:
        """Per part, in the design's order, its qubits and its circuit with open features.

        Raises:
            QumosError: gate cuts, since a part is more than one circuit then.
        """
        if self.cut_angles:
            raise QumosError(f"bundle of design {self.design.hash[:12]}: parts with gate cuts are run variant by variant, see Bundle.parts")
        return tuple((part.qubits, part.variants[0].circuit) for part in self.parts)

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities ``[rows, classes]`` for raw ``features``, every part run on Cirq's own simulator."""
        inputs = self.preprocessor.transform(features)
        return softmax(self.head(self.reconstruct([part.run(inputs) for part in self.parts])))

    def reconstruct(self, results: Sequence[np.ndarray]) -> np.ndarray:
        """⟨Z⟩ ``[rows, n_qubits]`` from the results of every part, exact or estimated, of the form of ``BundlePart.run``.

        Estimates need the same number of shots for every variant: shots allotted by coefficient would show the angles of the cuts.
        """
        tables = [
            result.reshape(1, len(result), *(len(LABELS) for _ in part.cuts), -1) for part, result in zip(self.parts, results, strict=True)
        ]
        matrices = [coefficients(np.array([angle])) for angle in self.cut_angles]
        return recombined([part.qubits for part in self.parts], [part.cuts for part in self.parts], tables, matrices)[0]

    def parameters(self, axis: str) -> Parameters:
        """Angles in the design's canonical gate order, those of cuts among them, and head; ``axis`` is that of the encoding.

        Raises:
            QumosError: the circuits or the cuts are not those of the design with this encoding.
        """
        angles = np.full(self.design.n_trainable, np.nan)
        parts, cuts = cut_parts(self.design, axis), cut_angles(self.design)
        if len(parts) != len(self.parts) or len(cuts) != len(self.cut_angles):
            held = f"{len(self.parts)} part(s) and {len(self.cut_angles)} gate cut(s)"
            raise QumosError(f"the bundle has {held}, its design {len(parts)} and {len(cuts)}")
        angles[list(cuts)] = self.cut_angles
        for part, held_part in zip(parts, self.parts, strict=True):
            found = _part_angles(part.variants, held_part.variants)
            if found is None:
                raise QumosError(f"part {part.index} of the bundle is not the circuit of its design with {axis} encoding")
            for name, value in found.items():
                angles[int(name.removeprefix("w"))] = value
        return Parameters(angles, self.head_parameters)


def read_bundle(path: str | Path) -> Bundle:
    """The bundle in the folder ``path``.

    Raises:
        QumosError: no manifest, another schema version, or a file that is missing or fails its checksum.
    """
    folder = Path(path)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise QumosError(f"{folder}: no readable {MANIFEST} ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("schema_version") != SCHEMA_VERSION:
        raise QumosError(f"{folder}/{MANIFEST}: schema_version is not {SCHEMA_VERSION}")
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not set(_OWNER_FILES) <= listed.keys():
        raise QumosError(f"{folder}/{MANIFEST}: does not list the files of a bundle")
    for name, digest in listed.items():
        if not (folder / name).is_file():
            raise QumosError(f"{folder}: {name} is missing")
        if _checksum(folder / name) != digest:
            raise QumosError(f"{folder}: {name} fails its checksum")
    owner = folder / "owner"
    assembly = _read_json(owner / "assembly.json")
    head_data = _read_json(owner / "head.json")
    classes = tuple(assembly["classes"])
    head = make_head(head_data["kind"], assembly["n_qubits"], len(classes))
    parameters = np.array(head_data["parameters"], float)
    cuts = assembly.get("cuts", [])
    return Bundle(
        manifest=manifest,
        classes=classes,
        preprocessor=Preprocessor.from_dict(_read_json(owner / "preprocessing.json")),
        parts=tuple(_read_part(folder, part, cuts) for part in assembly["parts"]),
        cut_angles=tuple(float(cut["angle"]) for cut in cuts),
        head=lambda values: head.logits(parameters, values),
        head_parameters=parameters,
        n_qubits=assembly["n_qubits"],
        design=Design.load(owner / "design.json"),
    )


def _read_part(folder: Path, part: Mapping[str, Any], cuts: Sequence[Mapping[str, Any]]) -> BundlePart:
    touching = tuple(number for number, cut in enumerate(cuts) if part["part"] in cut["parts"])
    qubits = tuple(part["qubits"])
    variants = []
    for labels in product(LABELS, repeat=len(touching)):
        measured = (cuts[number]["ancilla"] for number, label in zip(touching, labels, strict=True) if label == "M")
        text = (folder / "providers" / part["provider"] / f"{_circuit_name(part['part'], labels)}.json").read_text(encoding="utf-8")
        variants.append(Variant(labels, cirq.read_json(json_text=text), tuple(map(cirq.LineQubit, (*qubits, *measured)))))
    return BundlePart(part["part"], part["provider"], qubits, touching, tuple(variants))


def _circuit_name(part: int, labels: Sequence[str]) -> str:
    return "-".join(("part", str(part), *labels))


def _part_angles(templates: Sequence[Variant], bound: Sequence[Variant]) -> dict[str, float] | None:
    """As ``_angles``, from all variants of a part; None too where they do not agree."""
    if [template.labels for template in templates] != [variant.labels for variant in bound]:
        return None
    angles: dict[str, float] = {}
    for template, variant in zip(templates, bound, strict=True):
        found = _angles(template.circuit, variant.circuit)
        if found is None or any(angles.setdefault(name, value) != value for name, value in found.items()):
            return None
    return angles


def _angles(template: cirq.Circuit, bound: cirq.Circuit) -> dict[str, float] | None:
    """The angles in radians that fill the weight symbols of ``template`` in ``bound``; None where the circuits do not match."""
    angles: dict[str, float] = {}
    open_operations, operations = list(template.all_operations()), list(bound.all_operations())
    for open_operation, operation in zip(open_operations, operations, strict=False):
        names = [name for name in cirq.parameter_names(open_operation) if name.startswith("w")]
        if names and type(operation.gate) is type(open_operation.gate) and not cirq.is_parameterized(operation):
            exponent = operation.gate.exponent  # type: ignore[union-attr]
            angles[names[0]] = getattr(operation.gate, "_rads", exponent * np.pi)
            open_operation = cirq.resolve_parameters(open_operation, {names[0]: angles[names[0]]})
        # An angle that was written in half turns comes back with a rounding error.
        if open_operation != operation and not cirq.approx_eq(open_operation, operation):
            return None
    return angles if len(open_operations) == len(operations) else None


def _write_json(path: Path, data: object) -> None:
    write_text(path, json.dumps(data, indent=2, sort_keys=True) + "\n")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
