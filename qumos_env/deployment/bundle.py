"""The bundle of a design: one folder per provider with nothing but its own part, and the owner's secret folder.

    manifest.json           what this is, figures, and a checksum of every other file
    providers/<name>/       part-<i>.json (Cirq), part-<i>.qasm (OpenQASM 3): trained angles bound, features x<qubit> open
    owner/                  design.json, preprocessing.json, head.json, assembly.json
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cirq
import numpy as np

from ..circuits import bind, input_symbol, part_blocks, weight_symbol
from ..data import Preprocessor
from ..design import Design
from ..errors import QumosError
from ..files import check_target, new_folder, write_text
from ..heads import make_head, softmax
from ..model import Parameters
from ..scenario import Scenario
from ..workload import Workload
from .qasm import to_openqasm3

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
_OWNER_FILES = tuple(f"owner/{name}.json" for name in ("assembly", "design", "head", "preprocessing"))


def export_bundle(
    design: Design, scenario: Scenario, out: str | Path, *, seed: int | None = None, force: bool = False, workload: Workload | None = None
) -> Path:
    """Trains ``design`` on draw 0 of ``seed`` and writes its bundle to the folder ``out``.

    Args:
        design: a design within the scenario's limits, without cut gates.
        scenario: the scenario.
        out: a new or empty folder; with ``force`` an earlier bundle is replaced.
        seed: evaluation seed, default the scenario's.
        force: see ``out``.
        workload: the scenario's workload, where the caller has it already.

    Raises:
        QumosError: the design breaks the limits, has gate cuts, or ``out`` exists with other content.
        EvaluationFailure: training diverged.
    """
    scenario.check_design(design)
    if design.cut_gates:
        raise QumosError(f"design {design.hash[:12]}: bundles of designs with gate cuts are not supported")
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
        design: the design, without cut gates.
        workload: of the scenario.
        trained: angles and head of one model of ``design``.
        preprocessor: raw features to encoded angles, as the model was trained.
        facts: what the manifest says besides scenario, design and checksums; plain JSON.
        force: see ``out``.

    Raises:
        QumosError: ``out`` exists with other content or cannot be written.
    """
    scenario = workload.scenario
    angles = {weight_symbol(index): value for index, value in enumerate(trained.angles)}
    with new_folder(out, marker=MANIFEST, force=force) as folder:
        for part, block in zip(design.parts, part_blocks(design, scenario.data.axis), strict=True):
            circuit = bind(block.circuit, {name: angles[name] for name in map(weight_symbol, block.weights)})
            line = [cirq.LineQubit(qubit) for qubit in block.qubits]
            home = folder / "providers" / part.provider
            write_text(home / f"part-{part.index}.json", cirq.to_json(circuit))
            write_text(home / f"part-{part.index}.qasm", to_openqasm3(circuit, line))
        owner = folder / "owner"
        _write_json(owner / "design.json", design.to_dict())
        _write_json(owner / "preprocessing.json", preprocessor.to_dict())
        _write_json(owner / "head.json", {"kind": scenario.model.head, "parameters": trained.head.tolist()})
        _write_json(
            owner / "assembly.json",
            {
                "classes": list(workload.protocol.dataset.class_names),
                "n_qubits": design.n_qubits,
                "parts": [
                    {"part": part.index, "provider": part.provider, "qubits": list(part.qubits), "readout": "Z on every qubit"}
                    for part in design.parts
                ],
            },
        )
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


@dataclass(frozen=True)
class Bundle:
    """A bundle read back: what the owner and the providers together need to answer a query.

    Attributes:
        manifest: the manifest.
        classes: class names in the order of probabilities.
        preprocessor: raw features to encoded angles.
        circuits: per part, in the design's order, its qubits and its circuit with open features.
        head: ⟨Z⟩ ``[rows, n_qubits]`` to logits.
        head_parameters: of the head, flat.
        n_qubits: width of the register.
        design: the design.
    """

    manifest: dict[str, object]
    classes: tuple[str, ...]
    preprocessor: Preprocessor
    circuits: tuple[tuple[tuple[int, ...], cirq.Circuit], ...]
    head: Callable[[np.ndarray], np.ndarray]
    head_parameters: np.ndarray
    n_qubits: int
    design: Design

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities ``[rows, classes]`` for raw ``features``, every part run on Cirq's own simulator."""
        inputs = self.preprocessor.transform(features)
        values = np.zeros((len(inputs), self.n_qubits))
        simulator = cirq.Simulator(dtype=np.complex128)
        for qubits, circuit in self.circuits:
            line = [cirq.LineQubit(qubit) for qubit in qubits]
            readout = [cirq.Z(qubit) for qubit in line]
            for row, angles in enumerate(inputs):
                query = {input_symbol(qubit): angles[qubit] for qubit in qubits}
                values[row, list(qubits)] = np.real(simulator.simulate_expectation_values(circuit, readout, query, qubit_order=line))
        return softmax(self.head(values))

    def parameters(self, axis: str) -> Parameters:
        """Angles, read off the parts' circuits, in the design's canonical gate order, and head; ``axis`` is that of the encoding.

        Raises:
            QumosError: the circuits are not those of the design with this encoding.
        """
        angles = np.full(self.design.n_trainable, np.nan)
        blocks = part_blocks(self.design, axis)
        if len(blocks) != len(self.circuits):
            raise QumosError(f"the bundle has {len(self.circuits)} part(s), its design {len(blocks)}")
        for number, (block, (_, circuit)) in enumerate(zip(blocks, self.circuits, strict=True)):
            found = _angles(block.circuit, circuit)
            if found is None:
                raise QumosError(f"part {number} of the bundle is not the circuit of its design with {axis} encoding")
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
    circuits = []
    for part in assembly["parts"]:
        text = (folder / "providers" / part["provider"] / f"part-{part['part']}.json").read_text(encoding="utf-8")
        circuits.append((tuple(part["qubits"]), cirq.read_json(json_text=text)))
    return Bundle(
        manifest=manifest,
        classes=classes,
        preprocessor=Preprocessor.from_dict(_read_json(owner / "preprocessing.json")),
        circuits=tuple(circuits),
        head=lambda values: head.logits(parameters, values),
        head_parameters=parameters,
        n_qubits=assembly["n_qubits"],
        design=Design.load(owner / "design.json"),
    )


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
