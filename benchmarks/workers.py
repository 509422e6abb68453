"""Sides of a comparison: persistent processes that take turns, and the virtual environments of the other libraries.

A worker reads one JSON object per line from standard input and answers with one per line (``benchmarks.serving``). It times
itself, so that neither start-up nor the pipe is part of a figure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
_INSTALL_SECONDS = 1800
_SETUP_SECONDS = 180


class PeerUnavailable(RuntimeError):
    """The other library cannot be installed or started here, or is too slow; the case is then measured without it."""


class Disagreement(RuntimeError):
    """Two sides compute different things, so their times mean nothing."""


@dataclass(frozen=True)
class Peer:
    """A side: one way to use one library.

    Attributes:
        title: for the reader.
        module: of this folder, run as the worker.
        variant: which of the worker's.
        environment: its virtual environment is ``.venv-bench-<environment>``; ``None`` for the interpreter that runs now.
        requirements: what is installed there.
        shared: distributions installed there at the version that runs here, so that they are no difference between the sides.
    """

    title: str
    module: str
    variant: str = "default"
    environment: str | None = None
    requirements: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    def python(self) -> str:
        """Its interpreter, whose environment is made when it is missing.

        Raises:
            PeerUnavailable: the environment cannot be made.
        """
        if self.environment is None:
            return sys.executable
        folder = ROOT / f".venv-bench-{self.environment}"
        wanted = [*self.requirements, *(f"{name}=={version(name).partition('+')[0]}" for name in self.shared)]
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        stamp = folder / "installed.json"
        try:
            installed = json.loads(stamp.read_text(encoding="utf-8")) if stamp.exists() else []
            if not set(wanted) <= set(installed) or not python.exists():
                print(f"benchmarks: installing {' '.join(wanted)} into {folder.name} ...", file=sys.stderr, flush=True)
                if not python.exists():
                    _call(sys.executable, "-m", "venv", "--clear", str(folder))
                _call(str(python), "-m", "pip", "install", "--quiet", *wanted)
                stamp.write_text(json.dumps(sorted(wanted)), encoding="utf-8")
        except (OSError, json.JSONDecodeError, subprocess.SubprocessError) as error:
            detail = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
            raise PeerUnavailable(_last_line(detail)) from error
        return str(python)


_PENNYLANE = ("pennylane==0.45.1", "pennylane-lightning==0.45.0")
ENGINE = Peer("qumos_env engine", "qumos_worker", "engine")
LAYER = Peer("qumos_env QuantumLayer", "qumos_worker", "layer")
PEERS = {
    "default.qubit": Peer("PennyLane default.qubit, backprop", "pennylane_worker", "default", "pennylane", _PENNYLANE, ("numpy", "torch")),
    "lightning.qubit": Peer(
        "PennyLane lightning.qubit, adjoint", "pennylane_worker", "lightning", "pennylane", _PENNYLANE, ("numpy", "torch")
    ),
    "tensorcircuit": Peer(
        "TensorCircuit-NG, JAX jit",
        "tensorcircuit_worker",
        environment="tensorcircuit",
        requirements=("tensorcircuit-ng==1.10.0", "jax==0.10.2"),
    ),
    "tfq": Peer(
        "TensorFlow Quantum, adjoint",
        "tfq_worker",
        environment="tfq",
        requirements=("tensorflow-quantum==0.7.6", "tensorflow==2.18.1", "tf-keras==2.18.0"),
    ),
    "naive": Peer("qsim, naive parameter shift", "qumos_worker", "naive"),
}


def _last_line(text: str) -> str:
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["no message"])[-1]


def _call(*command: str) -> None:
    subprocess.run(command, check=True, timeout=_INSTALL_SECONDS, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _pin() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


class Worker:
    """A running worker; a context manager that ends it.

    Args:
        peer: whose; its environment is made when it is missing.
        pinned: hold it on one core, the same for all sides, so that helper threads of a library cost what they cost.

    Raises:
        PeerUnavailable: there is no such environment here.
    """

    def __init__(self, peer: Peer, *, pinned: bool = True) -> None:
        self._variant = peer.variant
        python = peer.python()
        self._log: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [python, "-m", f"{__package__}.{peer.module}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                preexec_fn=_pin if pinned and hasattr(os, "sched_setaffinity") else None,
            )
        except OSError as error:
            self._log.close()
            raise PeerUnavailable(str(error)) from error

    def tell(self, command: str, **details: object) -> None:
        """Sends a question whose answer ``hear`` gives."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, "variant": self._variant} | details) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # The empty answer below says why.

    def hear(self, limit: float = _SETUP_SECONDS) -> dict[str, Any]:
        """The answer; raises PeerUnavailable when the worker has ended, or has not answered within ``limit`` seconds and is ended."""
        assert self._process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(limit, end)
        timer.start()
        answer = self._process.stdout.readline()
        timer.cancel()
        if not answer:
            self._process.wait()
            self._log.seek(0)
            raise PeerUnavailable(f"slow: no answer within {limit:g} s" if late.is_set() else _last_line(self._log.read()))
        return dict(json.loads(answer))

    def ask(self, command: str, limit: float = _SETUP_SECONDS, **details: object) -> dict[str, Any]:
        """The answer to ``command``; see ``hear``."""
        self.tell(command, **details)
        return self.hear(limit)

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


def take_turns(sides: Mapping[str, Worker], repeats: int, seconds: float = 0.05, budget: float = 30.0) -> dict[str, Times]:
    """Times every side ``repeats`` times, fewer (at least 3) where that would take longer than ``budget`` seconds.

    In each repeat every side runs for about ``seconds``, one right after the other; who begins changes from repeat to repeat.
    The sides run on one thread, so that processor time is what a step costs, without the pauses that other programs force on it.
    """
    calls = {}
    turn = 0.0
    for name, worker in sides.items():
        single = max(worker.ask("time", calls=1)["seconds"], 1e-6)  # a warm-up as well
        if single < seconds:
            single = worker.ask("time", calls=3)["seconds"] / 3
        calls[name] = max(1, round(seconds / single))
        turn += calls[name] * single
    repeats = max(min(repeats, round(budget / turn)), min(repeats, 3))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for repeat in range(repeats):
        order = list(sides)
        order = order[repeat % len(order) :] + order[: repeat % len(order)]
        for name in order:
            answer = sides[name].ask("time", calls=calls[name])
            found[name].append((answer["seconds"] / calls[name], answer["clock"] / calls[name]))
    return {name: Times(*np.array(values).T) for name, values in found.items()}
