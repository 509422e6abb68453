"""The folder of a run: everything needed to repeat, continue and report it.

``run.json`` (what was run, with which versions), ``trace.jsonl`` (one trial a line), ``best_design.json``, ``results.json``
(test scores), ``progress.jsonl`` (how the search went on, one state a line), ``checkpoint.npz`` (what an RLlib agent has learned),
``evaluations.sqlite`` (the evaluation cache) and ``report.html``.
Nothing in it is trusted when it is read: whatever a file holds, it is what it should be or an error names it in one line.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, TypeVar

from pydantic import Field, field_validator

from agents.protocol import Scalar, Trial
from qumos_env import Design
from qumos_env.errors import QumosError, one_line, shortened
from qumos_env.files import check_target, write_text
from qumos_env.records import LARGEST, SHOWN, Record, parse
from qumos_env.scenario import Scenario, parse_scenario

from .locking import LOCK, held
from .results import Results, finite

SCHEMA_VERSION = 1
RUN, TRACE, BEST, RESULTS, REPORT = "run.json", "trace.jsonl", "best_design.json", "results.json", "report.html"
CHECKPOINT, CACHE, PROGRESS = "checkpoint.npz", "evaluations.sqlite", "progress.jsonl"
_AFTER_ABORT = ".run.json.interrupted"
_FILES = (RUN, TRACE, BEST, RESULTS, REPORT, CHECKPOINT, CACHE, PROGRESS)
_PACKAGES = ("qumos-env", "numpy", "torch", "cirq-core", "qsimcirq", "gymnasium", "scikit-learn", "ray")
# A thousand times what files of this kind hold, and still read in a moment.
_MOST_BYTES, _MOST_LINE = 2**25, 2**22
_LONGEST_PATH = 4096

State = Literal["new", "searching", "scoring", "interrupted", "done"]
R = TypeVar("R", bound=Record)


class RunPlan(Record):
    """What a run does.

    Attributes:
        scenario: the problem.
        agent: name of the agent.
        settings: its settings, complete.
        budget: distinct designs measured with all draws of the scenario; agents that measure with fewer can try more.
        seed: seed of the agent.
        workers: processes.
        time_limit: seconds of search, or ``None``.
        warm_start: whether the hand-made designs are evaluated first.
        random_budget: distinct designs of the random search that runs along for comparison; −1 for a share of the search's.
        contenders: best designs of the search that are scored again.
        test_seeds: fresh seeds of the test scores.
        data_digest: SHA-256 of the rows, which lie in no file of the run; empty in runs that did not keep it.
        evaluation_limit: seconds that an evaluation may take in a worker process, or ``None``.
    """

    scenario: Scenario
    agent: Annotated[str, Field(max_length=200)]
    settings: dict[str, Scalar]
    budget: Annotated[int, Field(ge=1, le=LARGEST)]
    seed: Annotated[int, Field(ge=0, le=2**64)]
    workers: Annotated[int, Field(ge=0, le=100_000)]
    time_limit: Annotated[float, Field(gt=0, le=1e9)] | None
    warm_start: bool
    random_budget: Annotated[int, Field(ge=-1, le=LARGEST)]
    contenders: Annotated[int, Field(ge=1, le=1_000_000)]
    test_seeds: Annotated[int, Field(ge=2, le=1_000_000)]
    data_digest: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    evaluation_limit: Annotated[float, Field(gt=0, le=1e9)] | None = None

    @field_validator("scenario", mode="before")
    @classmethod
    def _read_scenario(cls, value: object) -> object:
        # By the function that knows the scenario's own messages.
        return parse_scenario(value) if isinstance(value, Mapping) else value

    def to_dict(self) -> dict[str, object]:
        """Plain JSON data."""
        return self.model_dump(mode="json")


class _RunFile(Record):
    """The content of ``run.json``."""

    schema_version: Literal[1]
    state: State
    created: Annotated[str, Field(max_length=100)]
    command: list[str]
    scenario_hash: str
    plan: RunPlan
    versions: dict[str, str]


@dataclass
class RunDirectory:
    """A run on disk. ``create`` and ``resume`` give one to work on, ``open`` one to read."""

    path: Path
    plan: RunPlan
    state: State = "new"
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    command: list[str] = field(default_factory=lambda: ["python", "-m", "training", *map(_as_text, sys.argv[1:])])
    versions: dict[str, str] = field(default_factory=lambda: versions())
    scenario_hash: str = ""

    @classmethod
    @contextmanager
    def create(cls, path: str | Path, plan: RunPlan, *, force: bool) -> Iterator[RunDirectory]:
        """A new run at ``path``, held for the time of the block. With ``force`` the files of an earlier run are replaced.

        Raises:
            QumosError: the folder holds something else, or a run and ``force`` is not given, or it cannot be written, or another
                process works on it.
        """
        folder = folder_at(path)
        check_target(folder, ours=files_of_run, force=force)
        with written(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with held(folder):
            if (folder / RUN).exists():
                # Somebody else's run may have got there first.
                check_target(folder, ours=files_of_run, force=force)
            own_files(folder, (*_FILES, _AFTER_ABORT))
            with written(folder):
                for name in (TRACE, BEST, RESULTS, REPORT, CHECKPOINT, PROGRESS):
                    (folder / name).unlink(missing_ok=True)
            run = cls(folder, plan)
            run.save("searching")
            with run._leaving_it_resumable():
                yield run

    @classmethod
    @contextmanager
    def resume(cls, path: str | Path) -> Iterator[RunDirectory]:
        """The run at ``path``, held for the time of the block.

        Raises:
            QumosError: there is none, or it is not readable, or another process works on it.
        """
        folder = cls.open(path).path
        with held(folder):
            # Once more: until now another process may have worked on it.
            run = cls.open(folder)
            with run._leaving_it_resumable():
                yield run

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """The run at ``path``, to read.

        Raises:
            QumosError: there is none, or it is not readable.
        """
        folder = folder_at(path)
        own_files(folder, (*_FILES, _AFTER_ABORT))
        found = read_record(_RunFile, folder / RUN, hint="not a run directory")
        return cls(folder, found.plan, found.state, found.created, found.command, found.versions, found.scenario_hash)

    def save(self, state: State) -> None:
        """Writes ``run.json`` with the new state: ``searching``, ``scoring``, ``interrupted`` or ``done``.

        Raises:
            QumosError: the file cannot be written.
        """
        self.state = state
        if state in ("searching", "scoring"):
            # Written now, since a full disk may be what ends the work.
            write_json(self.path / _AFTER_ABORT, self._content("interrupted"))
        write_json(self.path / RUN, self._content(state))
        if state not in ("searching", "scoring"):
            (self.path / _AFTER_ABORT).unlink(missing_ok=True)

    def _content(self, state: State) -> dict[str, object]:
        return {
            "schema_version": SCHEMA_VERSION,
            "state": state,
            "created": self.created,
            "command": self.command,
            "scenario_hash": self.plan.scenario.hash,
            "plan": self.plan.to_dict(),
            "versions": versions(),
        }

    @contextmanager
    def _leaving_it_resumable(self) -> Iterator[None]:
        """Whatever ends the block early leaves the run ``interrupted``."""
        try:
            yield
        except BaseException:
            if self.state in ("searching", "scoring"):
                self.state = "interrupted"
                try:
                    os.replace(self.path / _AFTER_ABORT, self.path / RUN)
                except OSError:
                    pass  # what ended the work is what should be heard of
            raise

    @property
    def cache(self) -> str:
        """Absolute path of the evaluation cache."""
        return str(self.path / CACHE)

    @property
    def checkpoint(self) -> str:
        """Absolute path of the checkpoint."""
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

    def write_results(self, results: Results) -> None:
        """Writes ``results.json``."""
        write_json(self.path / RESULTS, results.model_dump())

    def results(self) -> Results:
        """The content of ``results.json``.

        Raises:
            QumosError: the run has not been scored yet, or the file is something else.
        """
        hint = f"the run has not been scored; continue it with: python -m training resume {self.path}"
        return read_record(Results, self.path / RESULTS, hint=hint)


def folder_at(path: str | Path) -> Path:
    """``path``, absolute; QumosError where it cannot be one."""
    try:
        if len(str(path)) < _LONGEST_PATH:
            return Path(path).resolve()
        problem: object = f"longer than {_LONGEST_PATH} characters"
    except (OSError, RuntimeError, ValueError) as error:
        problem = one_line(error)
    raise QumosError(f"{shortened(str(path), SHOWN)!r}: not a path ({problem})")


def own_files(folder: Path, names: Collection[str]) -> None:
    """Raises QumosError where one of ``names`` in ``folder`` is a link: what is written there would replace a file elsewhere."""
    for name in names:
        if (folder / name).is_symlink():
            raise QumosError(f"{folder / name}: a link, not a file of this folder")


def files_of_run(folder: Path) -> Collection[str] | None:
    """The files that a run writes, or ``None`` where there is no run in ``folder``."""
    return _FILES if is_run(folder) else None


def is_run(folder: Path) -> bool:
    """Whether ``folder`` holds a run of this release, or what one that did not get far has left."""
    names = {entry.name for entry in folder.iterdir()}
    if LOCK in names and names <= {LOCK, _AFTER_ABORT}:
        return True
    try:
        RunDirectory.open(folder)
    except QumosError:
        return False
    return True


class TraceWriter:
    """Appends trials to a trace, each on disk before the next begins. A context manager.

    Args:
        path: the file.
        keep: trials it holds already; anything after them (a torn line) is cut off.
    """

    def __init__(self, path: Path, keep: list[Trial] | None = None) -> None:
        self._path = path
        with written(path):
            if keep is not None:
                write_text(path, "".join(_line(trial) for trial in keep))
            # Unbuffered, so that a write that failed is not tried again when the file is closed.
            self._handle = path.open("ab", buffering=0)

    def write(self, trial: Trial) -> None:
        """Appends one trial.

        Raises:
            QumosError: it cannot be written.
        """
        rest = _line(trial).encode()
        with written(self._path):
            while rest:
                rest = rest[self._handle.write(rest) :]

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._handle.close()


def read_trace(path: Path) -> list[Trial]:
    """See ``RunDirectory.trials``; a missing file is an empty trace."""
    trials: list[Trial] = []
    if not path.exists():
        return trials
    with _reading(path), path.open("rb") as handle:
        for number, line in enumerate(iter(lambda: handle.readline(_MOST_LINE), b""), start=1):
            where = f"{path}, line {number}"
            if line == b"\n":
                continue
            if len(line) == _MOST_LINE:
                raise QumosError(f"{where}: longer than {_MOST_LINE} bytes")
            try:
                trial = parse(Trial, line, where)
            except QumosError:
                if not line.endswith(b"\n"):
                    break
                raise
            if trial.index != len(trials):
                raise QumosError(f"{where}: index is {trial.index}, {len(trials)} is the next")
            trials.append(trial)
    return trials


def _line(trial: Trial) -> str:
    return json.dumps(finite(trial.to_dict()), sort_keys=True) + "\n"


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Names ``path`` where what is written there in the block cannot be."""
    try:
        yield
    except OSError as error:
        raise QumosError(f"{path}: cannot be written ({error.strerror or one_line(error)})") from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        if path.exists() and not path.is_file():
            raise QumosError(f"{path}: not a file")
        yield
    except OSError as error:
        raise QumosError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from error


def write_json(path: Path, data: Mapping[str, object]) -> None:
    """Writes ``data`` in one step; QumosError where that fails."""
    with written(path):
        write_text(path, json.dumps(finite(data), indent=2, sort_keys=True) + os.linesep)


def read_record(kind: type[R], path: Path, hint: str = "") -> R:
    """The record in the JSON file ``path``.

    Raises:
        QumosError: it is missing (with ``hint``), unreadable, too long, or no such record.
    """
    try:
        with _reading(path), path.open("rb") as handle:
            data = handle.read(_MOST_BYTES + 1)
    except QumosError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise QumosError(f"{path}: not found" + (f" ({hint})" if hint else "")) from error
        raise
    if len(data) > _MOST_BYTES:
        raise QumosError(f"{path}: longer than {_MOST_BYTES} bytes")
    return parse(kind, data, str(path))


def _as_text(argument: str) -> str:
    # The name of a file may be no UTF-8, which JSON and HTML cannot hold.
    return argument.encode(errors="backslashreplace").decode()


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the libraries that decide a figure."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
