"""Writing the bundle of a design: one folder per provider with nothing but its own part, and the owner's secret folder."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..data import Preprocessor
from ..design import Design
from ..design.circuits import bind, weight_symbol
from ..design.gate_cuts import LABELS, CutPart, cut_angles, cut_parts
from ..errors import QumosError
from ..evaluation.workload import Workload
from ..files import check_new_folder, new_folder, write_text
from ..model.training import Parameters
from ..scenario import Scenario
from .bundle import circuit_name, files_of_bundle
from .circuit_files import write_circuit
from .folder import bundle_folder
from .qasm import to_openqasm3
from .schema import MANIFEST, SCHEMA_VERSION, Manifest
from .signing import owner_key, signed
from .tokens import OWNER_FILE, read_tokens, write_tokens

_SECRET_FOLDER, _SECRET_FILE = 0o700, 0o600
_RECOMBINATION = {
    "decomposition": "RZZ of Mitarai and Fujii, New J. Phys. 23, 023021 (2021)",
    "estimator": "product of means, every variant run equally often",
    "labels": list(LABELS),
}


_SOFTWARE = ("qumos-env", "numpy", "cirq-core", "qsimcirq", "torch", "scikit-learn")
_AUDITED = ("scenario", "seeds", "accuracy", "chance", "yardstick", "scorecard")
_NO_NAME = "model"


@dataclass(frozen=True)
class Release:
    """Under what name a bundle appears, and who signs it.

    Attributes:
        name: of the model; default the scenario's.
        number: the version; default the one after the bundle that is replaced, or 1.
        key: the owner's; default the one of ``signing.owner_key``.
        created: time of the export; default now.
        tokens: of providers, by name; new ones for the others.
    """

    name: str | None = None
    number: int | None = None
    key: Ed25519PrivateKey | None = None
    created: datetime | None = None
    tokens: Mapping[str, str] | None = None


def export_bundle(
    design: Design,
    scenario: Scenario,
    out: str | Path,
    *,
    seed: int | None = None,
    force: bool = False,
    workload: Workload | None = None,
    release: Release | None = None,
    fallback: bool = False,
    audit: Mapping[str, Any] | None = None,
) -> Path:
    """Trains ``design`` on draw 0 of ``seed`` and writes its bundle to the folder ``out``.

    Args:
        design: a design within the scenario's limits.
        scenario: the scenario.
        out: a new or empty folder; with ``force`` an earlier bundle is replaced.
        seed: evaluation seed, default the scenario's.
        force: see ``out``.
        workload: the scenario's workload, where the caller has it already.
        release: name, version and key.
        fallback: let the gateway answer without a part that does not.
        audit: what ``qumos audit --json`` printed of this design; its yardstick and scorecard go into the manifest.

    Raises:
        QumosError: the design breaks the limits, the audit is of another design, or ``out`` exists with other content.
        EvaluationFailure: training diverged.
    """
    scenario.check_design(design)
    check_new_folder(out, ours=files_of_bundle, force=force)
    if audit is not None and audit.get("design_hash") != design.hash:
        raise QumosError("audit: it is of another design than the one that is exported")
    workload = workload or Workload(scenario)
    seed = scenario.seed if seed is None else seed
    draw = workload.draws(seed, "test")[0]
    model = workload.model(design)
    trained = model.train(draw.train, draw.train_labels, draw.key)
    accuracy = float(np.mean(model.probabilities(trained, draw.score).argmax(axis=1) == draw.score_labels))
    rows = workload.protocol.draws(seed)[0].train
    facts: dict[str, Any] = {"seed": seed, "train_rows": len(rows), "test_accuracy": accuracy, "test_rows": len(draw.score_labels)}
    if audit is not None:
        facts["audit"] = {name: audit[name] for name in _AUDITED if name in audit}
    values = model.stack.readout(trained.angles[None], draw.train[None])[0].mean(axis=0) if fallback else None
    return write_bundle(out, design, workload, trained, workload.owner(rows), facts, force=force, release=release, fallback=values)


def write_bundle(
    out: str | Path,
    design: Design,
    workload: Workload,
    trained: Parameters,
    preprocessor: Preprocessor,
    facts: Mapping[str, object],
    *,
    force: bool = False,
    release: Release | None = None,
    fallback: np.ndarray | None = None,
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
        release: name, version and key.
        fallback: mean ⟨Z⟩ of every qubit ``[n_qubits]``, where the gateway may answer without a part that does not.

    Raises:
        QumosError: ``out`` exists with other content or cannot be written, or too many gate cuts to recombine.
    """
    scenario, chosen = workload.scenario, release or Release()
    key = chosen.key or owner_key()
    name, number, tokens = _named(chosen, scenario.name, Path(out))
    created = (chosen.created or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    head = {"schema_version": SCHEMA_VERSION, "name": name, "version": number, "created": created}
    parts, secret = cut_parts(design, scenario.data.axis), cut_angles(design)
    local = {weight_symbol(index): value for index, value in enumerate(trained.angles) if index not in secret}
    with new_folder(out, ours=files_of_bundle, force=force) as folder:
        held: dict[str, list[dict[str, Any]]] = {}
        for part in parts:
            home = folder / "providers" / part.provider
            variants = []
            for variant in part.variants:
                circuit = bind(variant.circuit, local)
                stem = circuit_name(part.index, variant.labels)
                write_text(home / f"{stem}.json", write_circuit(circuit))
                write_text(home / f"{stem}.qasm", to_openqasm3(circuit, list(variant.qubits)))
                variants.append({"labels": list(variant.labels), "circuit": f"{stem}.json", "qubits": [q.x for q in variant.qubits]})
            held.setdefault(part.provider, []).append({"part": part.index, "qubits": list(part.qubits), "variants": variants})
        for provider, mine in held.items():
            home = folder / "providers" / provider
            told = head | {"kind": "qumos-provider", "provider": provider, "parts": mine, "files": _checksums(home)}
            _write_json(home / MANIFEST, signed(told, key))
        owner = folder / "owner"
        owner.mkdir(_SECRET_FOLDER)
        for title, content in (
            ("design", design.to_dict()),
            ("preprocessing", preprocessor.to_dict()),
            ("head", {"kind": scenario.model.head, "parameters": trained.head.tolist()}),
            ("assembly", _assembly(design, parts, trained.angles[list(secret)], workload, fallback)),
        ):
            _write_json(owner / f"{title}.json", content, _SECRET_FILE)
        manifest = {
            **head,
            "kind": "qumos-bundle",
            "scenario": scenario.name,
            "scenario_hash": scenario.hash,
            "design_hash": design.hash,
            "software": _software(),
            "files": _checksums(folder),
            "fallback": fallback is not None,
            **facts,
        }
        complete = signed(manifest, key)
        _write_json(folder / MANIFEST, complete)
        write_tokens(folder, Manifest.model_validate(complete), tokens)
    return Path(out)


def earlier_release(bundle: Path, name: str | None = None, number: int | None = None) -> Release:
    """The release that follows the bundle in the folder ``bundle``: its name, the next version, the same tokens.

    Args:
        bundle: the earlier one; where there is none a first release comes out.
        name, number: instead of those that follow.
    """
    try:
        manifest = bundle_folder(bundle).manifest
    except QumosError:
        return Release(name, number)
    try:
        tokens = read_tokens(bundle / OWNER_FILE)
    except QumosError:  # renewed by hand, or never handed on
        tokens = {}
    follows = manifest.version + 1 if name in (None, manifest.name) else 1
    return Release(name or manifest.name, number or follows, tokens=tokens)


def _named(chosen: Release, scenario: str, out: Path) -> tuple[str, int, Mapping[str, str]]:
    """Name, version and tokens of what is written to ``out``."""
    if chosen.name is not None and chosen.number is not None and chosen.tokens is not None:
        return chosen.name, chosen.number, chosen.tokens
    default = re.sub(r"[^a-z0-9]+", "-", scenario.lower()).strip("-")[:63] or _NO_NAME
    name = chosen.name or (default if default[0].isalpha() else f"{_NO_NAME}-{default}"[:63])
    earlier = earlier_release(out, name, chosen.number)
    return name, earlier.number or 1, chosen.tokens or earlier.tokens or {}


def _software() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _SOFTWARE:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _assembly(
    design: Design, parts: Sequence[CutPart], angles: np.ndarray, workload: Workload, fallback: np.ndarray | None
) -> dict[str, object]:
    """What the owner needs to put the results of the parts together; ``angles`` are those of the gate cuts."""
    assembly: dict[str, object] = {
        "classes": list(workload.protocol.dataset.class_names),
        "n_qubits": design.n_qubits,
        "axis": workload.scenario.data.axis,
        "parts": [
            {"part": part.index, "provider": part.provider, "qubits": list(part.qubits), "readout": "Z on every qubit"} for part in parts
        ],
    }
    if fallback is not None:
        assembly["fallback"] = np.asarray(fallback, float).tolist()
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


def _checksums(folder: Path) -> dict[str, str]:
    """Of all files in ``folder``, by their names in it."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
