"""The worker's end of a comparison, the same for every library: which circuits, which questions, how time is taken.

A worker is ``python -m benchmarks.NAME_worker``, running in its library's environment and without qumos_env where that is another
library's. It calls ``serve`` with functions that build a circuit, and answers one JSON object per line of standard input.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

RATE = 1e-3


@dataclass(frozen=True)
class Workload:
    """A circuit and its data: RY of the inputs; then layers of two rotations per qubit and a ring of entangling gates.

    Attributes:
        inputs: radians ``[rows, qubits]``.
        targets: wanted ⟨Z⟩ ``[rows, qubits]``; the loss is the mean squared error.
        weights: radians ``[layers, qubits, 2]``.
        axes: ``x``, ``y`` or ``z`` for every rotation, ``[layers][qubits][2]``.
        rings: ``cz`` or ``cx`` (control first) on qubits ``q`` and ``q + 1``, ``[layers][qubits]``.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    axes: Sequence[Sequence[Sequence[str]]]
    rings: Sequence[Sequence[str]]

    @classmethod
    def make(cls, n_qubits: int, layers: int, rows: int, design: int | None = None) -> Workload:
        """Seeded data; the circuit is RY, RZ and CZ throughout, or drawn at random by the number ``design``."""
        data = np.random.default_rng(0)
        inputs = data.uniform(0, np.pi, (rows, n_qubits))
        targets = data.choice([-1.0, 1.0], (rows, n_qubits))
        weights = data.uniform(-np.pi, np.pi, (layers, n_qubits, 2))
        if design is None:
            return cls(inputs, targets, weights, [[["y", "z"]] * n_qubits] * layers, [["cz"] * n_qubits] * layers)
        draw = np.random.default_rng([1, design])
        axes = draw.choice(list("xyz"), weights.shape).tolist()
        return cls(inputs, targets, weights, axes, draw.choice(["cz", "cx"], weights.shape[:2]).tolist())

    def to_json(self) -> dict[str, object]:
        """As JSON takes it."""
        arrays = {name: getattr(self, name).tolist() for name in ("inputs", "targets", "weights")}
        return arrays | {"axes": self.axes, "rings": self.rings}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Workload:
        """The reverse of ``to_json``."""
        inputs, targets, weights = (np.array(content[name]) for name in ("inputs", "targets", "weights"))
        return cls(inputs, targets, weights, content["axes"], content["rings"])

    @property
    def n_qubits(self) -> int:
        """Width of the register."""
        return self.inputs.shape[1]

    @property
    def n_gates(self) -> int:
        """Gates behind the encoding."""
        return self.weights.size + self.weights.shape[0] * self.weights.shape[1]

    def gates(self) -> list[tuple[str, tuple[int, ...], tuple[int, int, int] | None]]:
        """The gates behind the encoding: kind, qubits, and where in ``weights`` the angle stands."""
        n = self.n_qubits
        found: list[tuple[str, tuple[int, ...], tuple[int, int, int] | None]] = []
        for layer, (axes, ring) in enumerate(zip(self.axes, self.rings, strict=True)):
            found += [(axis, (q,), (layer, q, at)) for q in range(n) for at, axis in enumerate(axes[q])]
            found += [(kind, (q, (q + 1) % n), None) for q, kind in enumerate(ring)]
        return found

    def product_states(self) -> np.ndarray:
        """The encoded states ``[rows, 2**qubits]``, for libraries that take states; made once, outside the measurement."""
        states = np.ones((len(self.inputs), 1))
        for column in self.inputs.T:
            qubit = np.stack([np.cos(column / 2), np.sin(column / 2)], axis=1)
            states = (states[:, :, None] * qubit[:, None, :]).reshape(len(self.inputs), -1)
        return states


@dataclass(frozen=True)
class Model:
    """A circuit ready to run: weights ``[layers, qubits, 2]`` to ⟨Z⟩ ``[rows, qubits]``, and to the gradient of the loss."""

    forward: Callable[[np.ndarray], np.ndarray]
    gradient: Callable[[np.ndarray], np.ndarray]


Configurations = Mapping[str, Callable[[], Model]]


def elapsed(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds that ``action`` takes: of processor time, all threads together, then by the clock."""
    clock, processor = time.perf_counter(), time.process_time()
    action()
    return time.process_time() - processor, time.perf_counter() - clock


def adam(gradient: Callable[[np.ndarray], np.ndarray], weights: np.ndarray, steps: int, rate: float) -> np.ndarray:
    """The weights after ``steps`` steps of Adam (Kingma and Ba, 2015)."""
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, steps + 1):
        slope = gradient(weights)
        mean = 0.9 * mean + 0.1 * slope
        square = 0.999 * square + 0.001 * slope * slope
        weights = weights - rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return weights


class _Session:
    """What a worker remembers between questions."""

    def __init__(self, variants: Mapping[str, Callable[[Workload], Configurations]], libraries: Sequence[str]) -> None:
        self._variants = variants
        self._libraries = libraries

    def setup(self, question: Mapping[str, Any]) -> dict[str, object]:
        """Builds every configuration, keeps the fastest, and answers with what it computes."""
        work = Workload.from_json(question["workload"])
        self._weights = work.weights
        speeds: dict[str, float] = {}
        best = np.inf
        for name, build in self._variants[question["variant"]](work).items():
            model = build()
            action = self._repeated(model, question["what"])
            action(1)  # compiles, where there is something to compile
            tries = [action(1)[0]]
            while sum(tries) < 0.2 and len(tries) < 100:
                tries.append(action(1)[0])
            speeds[name] = min(tries)
            if speeds[name] < best:
                best, chosen, self._chosen = speeds[name], name, model
        self._action = self._repeated(self._chosen, question["what"])
        return {
            "computed": getattr(self._chosen, question["check"])(work.weights).tolist(),
            "chosen": chosen,
            "configurations": speeds,
            "versions": {name: version(name) for name in self._libraries},
        }

    def _repeated(self, model: Model, what: str) -> Callable[[int], tuple[float, float]]:
        def gradient_steps(calls: int) -> None:
            weights = self._weights
            for _ in range(calls):
                weights = weights - RATE * model.gradient(weights)

        def forward_passes(calls: int) -> None:
            weights = self._weights
            for _ in range(calls):
                weights = weights + RATE * model.forward(weights)[0, 0]

        run = {"gradient": gradient_steps, "forward": forward_passes}[what]
        return lambda calls: elapsed(lambda: run(calls))

    def time(self, question: Mapping[str, Any]) -> dict[str, object]:
        """Runs the chosen configuration ``calls`` times, each with other weights."""
        processor, clock = self._action(question["calls"])
        return {"seconds": processor, "clock": clock}

    def fresh(self, question: Mapping[str, Any]) -> dict[str, object]:
        """Builds a circuit that was never seen and trains it."""
        work = Workload.from_json(question["workload"])
        found: list[np.ndarray] = []

        def train() -> None:
            model = self._variants[question["variant"]](work)[question["configuration"]]()
            weights = adam(model.gradient, work.weights, question["steps"], question["rate"])
            found.append(model.forward(weights))

        processor, clock = elapsed(train)
        return {"seconds": processor, "clock": clock, "loss": float(np.mean((found[0] - work.targets) ** 2))}


def serve(variants: Mapping[str, Callable[[Workload], Configurations]], libraries: Sequence[str] = ()) -> None:
    """Answers questions until standard input ends.

    Args:
        variants: per way to use the library, a function that gives its configurations (the fastest is taken).
        libraries: distributions whose versions are reported.
    """
    session = _Session(variants, libraries)
    commands = {"setup": session.setup, "time": session.time, "fresh": session.fresh}
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(commands[question["command"]](question)), flush=True)
