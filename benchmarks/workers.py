"""Sides of a comparison: persistent processes that take turns, and the virtual environment of the other libraries.

A worker reads one JSON object per line from standard input and answers with one per line. It times itself, so that neither
start-up nor the pipe is part of a figure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PEER_ENVIRONMENT = ROOT / ".venv-bench"
_INSTALL_SECONDS = 1800


class PeerUnavailable(RuntimeError):
    """The other library cannot be installed or started here; the case is then measured without it."""


class Disagreement(RuntimeError):
    """Two sides compute different things, so their times mean nothing."""


def peer_python(requirements: Sequence[str]) -> Path:
    """The interpreter of ``.venv-bench`` with ``requirements`` installed, made when it is missing.

    numpy and torch are held at the versions that qumos_env runs on, so that they are no difference between the sides.

    Raises:
        PeerUnavailable: the environment cannot be made.
    """
    shared = [f"{name}=={version(name).partition('+')[0]}" for name in ("numpy", "torch")]
    wanted = [*requirements, *shared]
    python = PEER_ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp = PEER_ENVIRONMENT / "installed.json"
    try:
        installed = json.loads(stamp.read_text(encoding="utf-8")) if stamp.exists() else []
        if not set(wanted) <= set(installed) or not python.exists():
            print(f"benchmarks: installing {' '.join(wanted)} into {PEER_ENVIRONMENT.name} ...", file=sys.stderr, flush=True)
            if not python.exists():
                _call(sys.executable, "-m", "venv", "--clear", str(PEER_ENVIRONMENT))
            _call(str(python), "-m", "pip", "install", "--quiet", *wanted)
            stamp.write_text(json.dumps(sorted({*installed, *wanted})), encoding="utf-8")
    except (OSError, json.JSONDecodeError, subprocess.SubprocessError) as error:
        detail = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise PeerUnavailable(_last_line(detail)) from error
    return python


def _last_line(text: str) -> str:
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["no message"])[-1]


def _call(*command: str) -> None:
    subprocess.run(command, check=True, timeout=_INSTALL_SECONDS, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


class Worker:
    """A running worker; a context manager that ends it.

    Args:
        python: the interpreter.
        script: file in this folder.
        search_path: whether the checkout is on the worker's import path.
    """

    def __init__(self, python: Path | str, script: str, *, search_path: bool) -> None:
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        extra = {"PYTHONPATH": str(ROOT)} if search_path else {}
        self._name = script
        self._log: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [str(python), str(Path(__file__).parent / script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                env=inherited | extra,
            )
        except OSError as error:
            self._log.close()
            raise PeerUnavailable(f"{script}: {error}") from error

    def ask(self, question: Mapping[str, object]) -> dict[str, Any]:
        """The answer to ``question``; raises PeerUnavailable when the worker has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # The empty answer below says why.
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
            self._log.seek(0)
            raise PeerUnavailable(f"{self._name}: {_last_line(self._log.read())}")
        return dict(json.loads(answer))

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()  # ends the worker's loop
        except BrokenPipeError:
            pass
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


@dataclass(frozen=True)
class Times:
    """Seconds per step of one side, float ``[repeats]``: of processor time, and by the clock."""

    processor: np.ndarray
    clock: np.ndarray


def take_turns(sides: Mapping[str, Worker], repeats: int, seconds: float = 0.05) -> dict[str, Times]:
    """Times every side ``repeats`` times.

    In each repeat every side runs for about ``seconds``, one right after the other; who begins changes from repeat to repeat.
    The sides run on one thread, so that processor time is what a step costs, without the pauses that other programs force on it.
    """
    calls = {}
    for name, worker in sides.items():
        worker.ask({"command": "time", "calls": 3})  # warm-up
        single = worker.ask({"command": "time", "calls": 3})["seconds"] / 3
        calls[name] = max(3, round(seconds / single))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for repeat in range(repeats):
        order = list(sides)
        order = order[repeat % len(order) :] + order[: repeat % len(order)]
        for name in order:
            answer = sides[name].ask({"command": "time", "calls": calls[name]})
            found[name].append((answer["seconds"] / calls[name], answer["clock"] / calls[name]))
    return {name: Times(*np.array(values).T) for name, values in found.items()}
