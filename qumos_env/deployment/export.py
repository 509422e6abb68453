"""Writing the bundle of a design: one folder per provider with nothing but its own part, and the owner's secret folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..data import Preprocessor
from ..design import Design
from ..design.circuits import bind, weight_symbol
from ..design.gate_cuts import LABELS, CutPart, cut_angles, cut_parts
from ..evaluation.workload import Workload
from ..files import check_new_folder, new_folder, write_text
from ..model.training import Parameters
from ..scenario import Scenario
from .bundle import circuit_name, files_of_bundle
from .circuit_files import write_circuit
from .qasm import to_openqasm3
from .schema import MANIFEST, SCHEMA_VERSION

_SECRET_FOLDER, _SECRET_FILE = 0o700, 0o600
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
    check_new_folder(out, ours=files_of_bundle, force=force)
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
    with new_folder(out, ours=files_of_bundle, force=force) as folder:
        for part in parts:
            home = folder / "providers" / part.provider
            for variant in part.variants:
                circuit = bind(variant.circuit, local)
                name = circuit_name(part.index, variant.labels)
                write_text(home / f"{name}.json", write_circuit(circuit))
                write_text(home / f"{name}.qasm", to_openqasm3(circuit, list(variant.qubits)))
        owner = folder / "owner"
        owner.mkdir(_SECRET_FOLDER)
        for name, content in (
            ("design", design.to_dict()),
            ("preprocessing", preprocessor.to_dict()),
            ("head", {"kind": scenario.model.head, "parameters": trained.head.tolist()}),
            ("assembly", _assembly(design, parts, trained.angles[list(secret)], workload.protocol.dataset.class_names)),
        ):
            _write_json(owner / f"{name}.json", content, _SECRET_FILE)
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


def _write_json(path: Path, data: object, mode: int = 0o666) -> None:
    write_text(path, json.dumps(data, indent=2, sort_keys=True) + "\n", mode)


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
