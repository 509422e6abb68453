"""The report of a run: a Markdown table, and JSON with every repeat."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .registry import CASES, Outcome

SCHEMA_VERSION = 2
_OURS = ("qumos-env", "cirq-core", "qsimcirq", "numpy", "torch")


def environment(outcomes: Mapping[str, Outcome]) -> dict[str, object]:
    """What the figures depend on: versions, cores, and how busy the machine was."""
    versions = {"python": platform.python_version()} | {name: _version(name) for name in _OURS}
    for outcome in outcomes.values():
        versions |= outcome.versions
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "checkout"  # qumos_env run from its folder without being installed


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def markdown(outcomes: Mapping[str, Outcome], facts: Mapping[str, object]) -> str:
    """The table, remarks and environment."""
    lines = [
        "| case | quantity | median | quartiles | target | reached |",
        "|---|---|---:|---:|---:|---|",
    ]
    remarks = []
    for name, outcome in outcomes.items():
        for row in outcome.rows:
            target = f"{row.target} {row.unit}" if row.target else ""
            if not len(row.values):
                lines.append(f"| {name} | {row.quantity} | {row.missing} | | {target} | |")
                continue
            lower, median, upper = row.quartiles
            reached = {None: "", True: "yes", False: "**no**"}[row.reached]
            lines.append(f"| {name} | {row.quantity} | {median:.3g} {row.unit} | {lower:.3g} to {upper:.3g} | {target} | {reached} |")
        remarks.append(f"- **{name}**: {CASES[name].title}")
        remarks += [f"  {note}" for note in outcome.notes]
    versions = facts["versions"]
    assert isinstance(versions, dict)
    listed = ", ".join(f"{name} {number}" for name, number in versions.items())
    machine = f"{facts['processor']}, {facts['cores']} cores, load average {facts['load_average']}, {facts['platform']}"
    return "\n".join([*lines, "", *remarks, "", f"Machine: {machine}.", f"Versions: {listed}."])


def write_json(path: Path, outcomes: Mapping[str, Outcome], facts: Mapping[str, object]) -> None:
    """Writes everything, each repeat included, to ``path``."""
    cases = {}
    for name, outcome in outcomes.items():
        rows = []
        for row in outcome.rows:
            lower, median, upper = row.quartiles if len(row.values) else (None, None, None)
            rows.append(
                {
                    "quantity": row.quantity,
                    "unit": row.unit,
                    "median": median,
                    "quartiles": [lower, upper],
                    "target": str(row.target) if row.target else None,
                    "reached": row.reached,
                    "missing": row.missing or None,
                    "values": list(row.values),
                }
            )
        cases[name] = {"title": CASES[name].title, "rows": rows, "notes": list(outcome.notes)}
    content = {"schema_version": SCHEMA_VERSION, "environment": dict(facts), "cases": cases}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
