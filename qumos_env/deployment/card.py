"""The card of a model: what a bundle is, in Markdown, after the model cards of Mitchell et al. (arXiv 1810.03993)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..design.text_drawing import design_text
from .owner import OwnerModel


def model_card(model: OwnerModel) -> str:
    """The card of ``model``: identity, provenance, drawing, figures, audit; everything in it stands in the bundle."""
    manifest = model.manifest
    parts = [
        f"# {manifest['name']}, version {manifest['version']}",
        f"A distributed quantum model of {len(model.parts)} part(s) on {_and(sorted({part.provider for part in model.parts}))}, made from "
        f"scenario `{manifest['scenario']}` on {manifest['created']}.",
        "## Use",
        _table(
            ("", ""),
            [
                ("input", f"{len(model.preprocessor.matrix)} raw features, finite numbers"),
                ("output", f"probabilities of {len(model.classes)} classes: {', '.join(model.classes)}"),
                ("encoding", f"{model.preprocessor.encoding}, about {model.axis}, on {model.n_qubits} qubits"),
                ("shots", "exact expectation values" if model.design.shots is None else f"{model.design.shots} of every circuit"),
                ("head", f"{model.head_kind}, secret"),
                ("gate cuts", str(len(model.cut_angles))),
                ("without a part", "answers with mean readings and says so" if model.fallback is not None else "does not answer"),
            ],
        ),
        "## Drawing",
        f"```text\n{design_text(model.design)}\n```",
        _table(
            ("part", "provider", "qubits", "circuits"),
            [(str(part.index), part.provider, " ".join(map(str, part.qubits)), str(5 ** len(part.cuts))) for part in model.parts],
        ),
        "## Measured",
        _table(("figure", "value"), _measured(manifest)),
        *_audit(manifest.get("audit")),
        *_unlearning(manifest.get("unlearning")),
        "## Provenance",
        _table(
            ("", ""),
            [
                ("scenario hash", f"`{manifest['scenario_hash']}`"),
                ("design hash", f"`{manifest['design_hash']}`"),
                ("signed with", f"`{manifest['signature']['public_key']}` (Ed25519)"),
                *((name, number) for name, number in sorted(manifest["software"].items())),
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _measured(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    if manifest.get("test_accuracy") is not None:
        found.append(("accuracy on the test split", f"{manifest['test_accuracy']:.3f} of {manifest.get('test_rows', '?')} rows"))
    for name, title in (("train_rows", "training rows"), ("seed", "seed")):
        if manifest.get(name) is not None:
            found.append((title, str(manifest[name])))
    return found or [("none", "")]


def _audit(audit: dict[str, Any] | None) -> list[str]:
    if audit is None:
        return ["## Audit", "This bundle carries no audit; `qumos export --audit audit.json` puts one in."]
    lines = []
    for line in audit.get("scorecard", ()):
        if isinstance(line, dict):
            lines.append(tuple(_cell(line.get(name)) for name in ("attack", "verdict", "value", "control")))
    sentence = audit.get("yardstick", {}).get("sentence", "") if isinstance(audit.get("yardstick"), dict) else ""
    return ["## Audit", *([str(sentence)] if sentence else []), _table(("threat", "verdict", "value", "control"), lines)]


def _unlearning(record: dict[str, Any] | None) -> list[str]:
    if record is None:
        return []
    return ["## Unlearning", f"{record.get('forgotten_rows')} training rows were withdrawn by `{record.get('method')}`."]


def _cell(value: object) -> str:
    if isinstance(value, dict):  # an interval
        mean = value.get("mean")
        return "n/a" if not isinstance(mean, (int, float)) else f"{mean:.3f}"
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
