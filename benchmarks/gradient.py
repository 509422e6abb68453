"""Gradient steps, forward passes and whole short trainings of one part: ``QuantumLayer``, which users call, against other libraries.

The engine below it, which trains the models of designs, is timed as well; what the layer costs above it is the case ``layer``.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack
from typing import Any

import numpy as np

from .registry import Outcome, Row, Target, case
from .serving import Workload
from .workers import ENGINE, LAYER, PEERS, Disagreement, PeerUnavailable, Times, Worker, take_turns

LAYERS = 3
SIZES = {4: 200, 8: 256, 12: 64, 16: 16}  # rows by qubits
STEP_TARGETS = {4: Target(at_least=2.5), 8: Target(at_least=3), 12: Target(at_least=3), 16: Target(at_least=2)}
PENNYLANE_TARGET = Target(at_least=20)
STEPS, RATE = 80, 0.05
FRESH_TARGET = Target(at_least=40)
NAIVE_ROWS = 10
_FRESH_LIMIT = 40.0
_FRESH_BUDGET = 60.0
_TOLERANCE = 1e-3
_COMPARED = ["engine", "layer", *(name for name in PEERS if name != "naive")]


def _difference(left: object, right: object) -> float:
    """The largest difference, relative to the largest value of ``right``."""
    return float(np.abs(np.array(left) - np.array(right)).max() / np.abs(np.array(right)).max())


class _Sides:
    """The workers of a case that are available, set up and found to agree, and rows for those that are not."""

    def __init__(self, stack: ExitStack, work: Workload, what: str, names: list[str]) -> None:
        self.workers: dict[str, Worker] = {}
        self.missing: list[Row] = []
        self.notes: list[str] = []
        self.versions: dict[str, str] = {}
        self.configurations: dict[str, str] = {}
        wanted: dict[str, Any] = {}
        for name, peer in {"engine": ENGINE, "layer": LAYER, **PEERS}.items():
            if name not in names:
                continue
            try:
                worker = stack.enter_context(Worker(peer))
                answer = worker.ask("setup", workload=work.to_json(), what=what, check=what)
            except PeerUnavailable as error:
                if name in ("engine", "layer"):
                    raise
                self.missing.append(Row(peer.title, "ms", [], missing=f"peer not available: {str(error).replace('|', '/')}"))
                continue
            wanted = wanted or answer
            worst = _difference(answer["computed"], wanted["computed"])
            if worst > _TOLERANCE:
                raise Disagreement(f"{peer.title} differs from the engine in its {what} by {worst:.1e} of the largest value")
            self.workers[name] = worker
            self.configurations[name] = answer["chosen"]
            self.versions |= answer["versions"]
            if len(answer["configurations"]) > 1:
                speeds = ", ".join(f"{key} {1e3 * seconds:.3g} ms" for key, seconds in answer["configurations"].items())
                self.notes.append(f"{peer.title}: the fastest of its configurations here, {answer['chosen']} ({speeds}).")

    def rows(self, times: dict[str, Times], target: Target | None, extra: dict[str, Target]) -> list[Row]:
        """Times of every side, and ratios to the layer's."""
        ours = times["layer"]
        found, ratios = [], []
        for name, peer in {"engine": ENGINE, "layer": LAYER, **PEERS}.items():
            if name in times:
                found.append(Row(peer.title, "ms", (1e3 * times[name].processor).tolist()))
                if name in PEERS:
                    ratios.append(
                        Row(f"{peer.title} / QuantumLayer", "x", (times[name].processor / ours.processor).tolist(), extra.get(name))
                    )
        others = [name for name in times if name in PEERS]
        if others:
            best = min(others, key=lambda name: float(np.median(times[name].processor)))
            theirs = times[best]
            ratios.append(Row(f"best peer ({best}) / QuantumLayer", "x", (theirs.processor / ours.processor).tolist(), target))
            ratios.append(Row(f"best peer ({best}) / QuantumLayer, by the clock", "x", (theirs.clock / ours.clock).tolist()))
        elif target:
            ratios.append(Row("best peer / QuantumLayer", "x", [], target, "no peer available"))
        return [*found, *self.missing, *ratios]


def _timed(n_qubits: int, what: str, repeats: int) -> Outcome:
    with ExitStack() as stack:
        sides = _Sides(stack, Workload.make(n_qubits, LAYERS, SIZES[n_qubits]), what, _COMPARED)
        times = take_turns(sides.workers, repeats)
    sides.missing.append(Row(PEERS["naive"].title, "ms", [], missing="not run: slow, see the case naive"))
    if what == "forward":
        return Outcome(sides.rows(times, None, {}), sides.notes, sides.versions)
    extra = {"default.qubit": PENNYLANE_TARGET} if n_qubits == 4 else {}
    return Outcome(sides.rows(times, STEP_TARGETS[n_qubits], extra), sides.notes, sides.versions)


for _qubits, _rows in SIZES.items():
    _angles = f"{2 * LAYERS * _qubits} trainable angles ({LAYERS} layers of RY, RZ and a CZ ring)"
    _shape = f"of a {_qubits}-qubit part with {_angles} on {_rows} samples"
    _rules = "one thread a side, the sides taking turns; processor time unless the clock is named. Compilation is not counted."
    case(f"gradient-{_qubits}", f"one full-batch gradient-descent step {_shape}, mean squared error of Z on every qubit; {_rules}")(
        functools.partial(_timed, _qubits, "gradient")
    )
    case(f"forward-{_qubits}", f"Z on every qubit {_shape}; {_rules}")(functools.partial(_timed, _qubits, "forward"))


@case(
    "fresh",
    f"a 4-qubit circuit that no side has seen (3 layers of two rotations per qubit and a ring; axes and CZ or CX drawn anew in every"
    f" repeat) is built, compiled where the library compiles, and trained for {STEPS} steps of Adam on {SIZES[4]} samples; processor time.",
)
def fresh(repeats: int) -> Outcome:
    """All sides train the same circuits from the same start and must reach the same loss."""
    found: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        names = [name for name in _COMPARED if name != "lightning.qubit"]
        sides = _Sides(stack, Workload.make(4, LAYERS, SIZES[4], 0), "gradient", names)
        for name in ("lightning.qubit", "naive"):
            sides.missing.append(Row(PEERS[name].title, "ms", [], missing="not run: slow, see the gradient step"))
        spent, repeat = 0.0, 0
        while repeat < repeats and (repeat < 3 or spent < _FRESH_BUDGET):
            repeat += 1
            work = Workload.make(4, LAYERS, SIZES[4], repeat)
            order = list(sides.workers)
            loss = None
            for name in order[repeat % len(order) :] + order[: repeat % len(order)]:
                question = {"workload": work.to_json(), "configuration": sides.configurations[name], "steps": STEPS, "rate": RATE}
                try:
                    answer = sides.workers[name].ask("fresh", _FRESH_LIMIT, **question)
                except PeerUnavailable as error:
                    if name not in PEERS:
                        raise
                    sides.missing.append(Row(PEERS[name].title, "ms", [], missing=f"not timed: {error}"))
                    del sides.workers[name]
                    continue
                loss = answer["loss"] if loss is None else loss
                if abs(answer["loss"] - loss) > _TOLERANCE:
                    raise Disagreement(f"fresh: {name} trains to a loss of {answer['loss']:.5f}, another side to {loss:.5f}")
                found.setdefault(name, []).append((answer["seconds"], answer["clock"]))
                spent += answer["clock"]
    times = {name: Times(*np.array(values).T) for name, values in found.items() if name in sides.workers}
    return Outcome(sides.rows(times, FRESH_TARGET, {}), sides.notes, sides.versions)


@case(
    "naive",
    f"the gradient step of gradient-4 on {NAIVE_ROWS} samples, against parameter shift by one call of"
    " QSimSimulator.simulate_expectation_values per shift and sample; processor time.",
)
def naive(repeats: int) -> Outcome:
    """What a user of qsim has without an adjoint; so slow that the other cases leave it out."""
    with ExitStack() as stack:
        sides = _Sides(stack, Workload.make(4, LAYERS, NAIVE_ROWS), "gradient", ["engine", "layer", "naive"])
        times = take_turns(sides.workers, repeats, budget=20)
    return Outcome(sides.rows(times, None, {}), sides.notes, sides.versions)
