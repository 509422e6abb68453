"""Unlearning of a deployed model: bundle in, bundle out.

The new manifest says how many rows were withdrawn, not which: their numbers would tell everyone who reads it whose data the model
had been trained on. It holds a digest instead, with which the owner can show that a list of rows is the withdrawn one. A digest
of few rows could be guessed, so it is keyed with the parent's owner folder and circuits.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..deployment.bundle import Bundle, contents_of_bundle, files_of_bundle, read_bundle
from ..deployment.export import earlier_release, write_bundle
from ..deployment.schema import MANIFEST
from ..errors import QumosError, unknown
from ..evaluation.service import Service
from ..evaluation.workload import Workload
from ..files import check_new_folder
from ..model.training import Parameters
from ..scenario import Scenario, list_scenarios, load_scenario
from .measurement import measure
from .mechanisms import MECHANISMS
from .report import UnlearningReport, summarise
from .withdrawal import parse_forget, withdraw_rows

# Part of the largest entry by which a preprocessing that was fitted anew may differ from the stored one: other libraries round
# differently, other rows give something else altogether.
_REFIT_TOLERANCE = 1e-3
_STAGES = 3  # read, forget, write


def unlearn_bundle(
    bundle: str | Path,
    forget: str,
    method: str,
    out: str | Path,
    *,
    scenario: Scenario | None = None,
    force: bool = False,
    workload: Workload | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> UnlearningReport:
    """Makes the model of a bundle forget training rows, and writes the result as another bundle.

    Args:
        bundle: folder of the bundle; it is verified first, and left as it is unless ``out`` names it too.
        forget: the rows, see ``parse_forget``.
        method: name of a mechanism.
        out: a new or empty folder; with ``force`` an earlier bundle is replaced.
        scenario: the scenario that the bundle was made from; default the built-in one of that name.
        force: see ``out``.
        workload: that scenario's workload, where the caller has it already.
        on_progress: called with the number of stages done and in all.

    Returns:
        What was achieved; the manifest of ``out`` holds it too, under ``unlearning``.

    Raises:
        QumosError: a damaged bundle, one that has forgotten rows already, another scenario or other data than it was made from,
            an unknown method, rows that cannot be withdrawn, or an ``out`` that cannot be written. Nothing is written then.
        EvaluationFailure: the unlearning diverged.
    """
    if method not in MECHANISMS:
        raise unknown("unlearning method", method, MECHANISMS)
    progress = on_progress or (lambda done, total: None)
    folder = Path(bundle)
    parent = read_bundle(folder)
    if "unlearning" in parent.manifest:
        raise QumosError(
            f"{folder}: this model has forgotten rows already, and which is not stored; "
            "withdraw all rows at once from the bundle that it came from"
        )
    check_new_folder(out, ours=files_of_bundle, force=force)
    workload = workload or Workload(scenario or _scenario_of(folder, parent))
    with threadpool_limits(1):
        service = _victim(folder, parent, workload)
        rows = parse_forget(forget, service.rows[0].train, service.observed_labels, workload.protocol.dataset.class_names)
        progress(1, _STAGES)
        measured = measure(withdraw_rows(service, [rows]), [method])[method]
        progress(2, _STAGES)
        report, after = summarise([measured]), measured.after
        answers = after.model.probabilities(after.trained, after.encode(after.test))[0]
        facts: dict[str, Any] = {name: parent.manifest[name] for name in ("seed", "train_rows")}
        facts["test_accuracy"] = float(np.mean(answers.argmax(axis=1) == after.labels[after.test[0]]))
        facts["test_rows"] = after.test.shape[1]
        facts["unlearning"] = {
            "method": method,
            "forgotten_rows": len(rows),
            "rows_digest": rows_digest(folder, rows),
            "parent": hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
            "report": report.to_dict(),
        }
        release, fallback = earlier_release(folder), None
        if parent.fallback is not None:
            kept = after.encode(np.stack([after.rows[0].train]))
            fallback = after.model.stack.readout(after.trained.angles, kept)[0].mean(axis=0)
        write_bundle(
            out, parent.design, workload, after.trained[0], after.preprocessors[0], facts, force=force, release=release, fallback=fallback
        )
    progress(_STAGES, _STAGES)
    return report


def rows_digest(parent: str | Path, rows: Iterable[int]) -> str:
    """HMAC-SHA-256 of the withdrawn row numbers, keyed with the contents of the bundle ``parent`` that the model came from.

    Raises:
        QumosError: no bundle, or one that is damaged.
    """
    contents = contents_of_bundle(Path(parent))
    key = hashlib.sha256()
    for name in sorted(map(PurePosixPath, contents)):
        if name.suffix == ".json":
            key.update(contents[str(name)])
    text = ",".join(str(row) for row in sorted(set(map(int, rows))))
    return hmac.new(key.digest(), text.encode(), hashlib.sha256).hexdigest()


def _scenario_of(folder: Path, parent: Bundle) -> Scenario:
    name = str(parent.manifest.get("scenario"))
    if name not in list_scenarios():
        raise QumosError(f"{folder}: was made from scenario {name!r}, which is not built in; give its TOML file")
    return load_scenario(name)


def _victim(folder: Path, parent: Bundle, workload: Workload) -> Service:
    """The model of the bundle with the rows it was trained on; raises QumosError where scenario, design or data are not the same."""
    scenario, manifest = workload.scenario, parent.manifest
    if manifest.get("scenario_hash") != scenario.hash:
        raise QumosError(
            f"{folder}: was made from scenario {manifest.get('scenario')!r} with hash {str(manifest.get('scenario_hash'))[:12]}, "
            f"this is {scenario.name!r} with {scenario.hash[:12]}; give the scenario file that it was exported with"
        )
    if manifest.get("design_hash") != parent.design.hash:
        raise QumosError(f"{folder}: the manifest names another design than owner/design.json")
    seed = manifest.get("seed")
    if not isinstance(seed, int) or seed < 0:
        raise QumosError(f"{folder}: the manifest names no seed, so the training rows are unknown")
    rows = workload.protocol.draws(seed)[:1]
    fitted = workload.owner(rows[0].train)
    if len(rows[0].train) != manifest.get("train_rows") or not _alike(fitted.matrix, parent.preprocessor.matrix):
        raise QumosError(f"{folder}: data set {scenario.data.source!r} is not the one that the bundle was trained on")
    model = workload.model(parent.design)
    trained = Parameters.stack([parent.parameters(scenario.data.axis)])
    return Service(workload, seed, model, trained, rows, (parent.preprocessor,))


def _alike(fitted: np.ndarray, stored: np.ndarray) -> bool:
    return fitted.shape == stored.shape and bool(np.abs(fitted - stored).max() <= _REFIT_TOLERANCE * np.abs(fitted).max())
