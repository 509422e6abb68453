"""The folder of a run: everything needed to repeat, continue and report it.

``run.json`` (what was run, with which versions), ``trace.jsonl`` (one trial a line), ``best_design.json``, ``results.json``
(test scores), ``checkpoint/`` (RLlib agents), ``evaluations.sqlite`` (the evaluation cache) and ``report.html``.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from agents.protocol import Trial
from qumos_env import Design
from qumos_env.errors import QumosError
from qumos_env.files import check_target, write_text
from qumos_env.scenario import Scenario, parse_scenario

SCHEMA_VERSION = 1
RUN, TRACE, BEST, RESULTS, REPORT = "run.json", "trace.jsonl", "best_design.json", "results.json", "report.html"
CHECKPOINT, CACHE = "checkpoint", "evaluations.sqlite"
_PACKAGES = ("qumos-env", "numpy", "torch", "cirq-core", "qsimcirq", "gymnasium", "scikit-learn", "ray")


@dataclass(frozen=True)
class RunPlan:
    """What a run does.

    Attributes:
        scenario: the problem.
        agent: name of the agent.
        settings: its settings, complete.
        budget: distinct designs.
        seed: seed of the agent.
        workers: processes.
        time_limit: seconds of search, or ``None``.
        warm_start: whether the hand-made designs are evaluated first.
        random_budget: distinct designs of the random search that runs along for comparison.
        contenders: best designs of the search that are scored again.
        test_seeds: fresh seeds of the test scores.
    """

    scenario: Scenario
    agent: str
    settings: Mapping[str, object]
    budget: int
    seed: int
    workers: int
    time_limit: float | None
    warm_start: bool
    random_budget: int
    contenders: int
    test_seeds: int

    def to_dict(self) -> dict[str, object]:
        """Plain JSON data."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"settings": dict(self.settings), "scenario": self.scenario.model_dump(mode="json")}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> RunPlan:
        """The plan in ``data``.

        Raises:
            QumosError: names ``where`` and what is missing or unknown.
        """
        fields = set(cls.__dataclass_fields__)
        if set(data) != fields:
            raise QumosError(f"{where}: not a plan of this release; its fields are {', '.join(sorted(fields))}")
        return cls(**{**data, "scenario": parse_scenario(data["scenario"], where=where)})


@dataclass
class RunDirectory:
    """A run on disk."""

    path: Path
    plan: RunPlan
    state: str = "new"
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    command: list[str] = field(default_factory=lambda: ["python", "-m", "training", *sys.argv[1:]])

    @classmethod
    def create(cls, path: str | Path, plan: RunPlan, *, force: bool) -> RunDirectory:
        """A new run at ``path``.

        Raises:
            QumosError: the folder holds something else, or a run and ``force`` is not given, or it cannot be written.
        """
        folder = Path(path).resolve()
        check_target(folder, ours=lambda found: (RUN,) if (found / RUN).is_file() else None, force=force)
        run = cls(folder, plan)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (TRACE, BEST, RESULTS, REPORT):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
            run.save("searching")
        except OSError as error:
            raise QumosError(f"{folder}: cannot be written ({error.strerror})") from error
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """The run at ``path``.

        Raises:
            QumosError: there is none, or it is not readable.
        """
        folder = Path(path).resolve()
        data = read_json(folder / RUN, hint="not a run directory")
        if data.get("schema_version") != SCHEMA_VERSION or not isinstance(data.get("plan"), dict):
            raise QumosError(f"{folder / RUN}: schema_version is {data.get('schema_version')!r}, this release reads {SCHEMA_VERSION}")
        plan = RunPlan.from_dict(data["plan"], str(folder / RUN))
        return cls(folder, plan, data["state"], data["created"], data["command"])

    def save(self, state: str) -> None:
        """Writes ``run.json`` with the new state: ``searching``, ``scoring``, ``interrupted`` or ``done``."""
        self.state = state
        write_json(
            self.path / RUN,
            {
                "schema_version": SCHEMA_VERSION,
                "state": state,
                "created": self.created,
                "command": self.command,
                "scenario_hash": self.plan.scenario.hash,
                "plan": self.plan.to_dict(),
                "versions": versions(),
            },
        )

    @property
    def cache(self) -> str:
        """Absolute path of the evaluation cache."""
        return str(self.path / CACHE)

    @property
    def checkpoint(self) -> str:
        """Absolute path of the checkpoint folder."""
        return str(self.path / CHECKPOINT)

    def trials(self) -> list[Trial]:
        """The trials of the trace.

        Raises:
            QumosError: a line is not a trial. A torn last line, as a killed process leaves it, is dropped.
        """
        return read_trace(self.path / TRACE)

    def write_best(self, design: Design) -> None:
        """Writes ``best_design.json``."""
        write_json(self.path / BEST, design.to_dict())

    def write_results(self, results: Mapping[str, object]) -> None:
        """Writes ``results.json``."""
        write_json(self.path / RESULTS, results)

    def results(self) -> dict[str, Any]:
        """The content of ``results.json``.

        Raises:
            QumosError: the run has not been scored yet.
        """
        return read_json(self.path / RESULTS, hint=f"the run has not been scored; continue it with: python -m training resume {self.path}")


class TraceWriter:
    """Appends trials to a trace, each on disk before the next begins. A context manager.

    Args:
        path: the file.
        keep: trials it holds already; anything after them (a torn line) is cut off.
    """

    def __init__(self, path: Path, keep: list[Trial] | None = None) -> None:
        if keep is not None:
            write_text(path, "".join(_line(trial) for trial in keep))
        self._handle = path.open("a", encoding="utf-8")

    def write(self, trial: Trial) -> None:
        """Appends one trial."""
        self._handle.write(_line(trial))
        self._handle.flush()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._handle.close()


def read_trace(path: Path) -> list[Trial]:
    """See ``RunDirectory.trials``; a missing file is an empty trace."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    trials = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            trials.append(Trial.from_dict(json.loads(line), f"{path}, line {number}"))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise QumosError(f"{path}, line {number}: not JSON ({error})") from error
    return trials


def _line(trial: Trial) -> str:
    return json.dumps(finite(trial.to_dict()), sort_keys=True) + "\n"


def finite(value: Any) -> Any:
    """``value`` with NaN and infinities, which JSON lacks, replaced by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def write_json(path: Path, data: Mapping[str, object]) -> None:
    """Writes ``data`` in one step."""
    write_text(path, json.dumps(finite(data), indent=2, sort_keys=True) + os.linesep)


def read_json(path: Path, hint: str = "") -> dict[str, Any]:
    """The JSON object in ``path``.

    Raises:
        QumosError: it is missing (with ``hint``), unreadable or no JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise QumosError(f"{path}: not found" + (f" ({hint})" if hint else "")) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise QumosError(f"{path}: cannot be read ({error})") from error
    if not isinstance(data, dict):
        raise QumosError(f"{path}: not a JSON object")
    return data


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the libraries that decide a figure."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


__all__ = ["RunDirectory", "RunPlan", "TraceWriter", "finite", "read_json", "read_trace", "versions", "write_json"]
