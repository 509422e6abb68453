"""One full-batch gradient step of one part, against PennyLane."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import numpy as np

from .registry import Outcome, Row, Target, case
from .workers import Disagreement, PeerUnavailable, Worker, peer_python, take_turns

PENNYLANE = ("pennylane==0.45.1",)
QUBITS, LAYERS, ROWS = 4, 3, 200
RATIO = Target(at_least=20)
_TOLERANCE = 1e-5


def workload() -> dict[str, object]:
    """Inputs ``[rows, qubits]``, targets of ⟨Z⟩ ``[rows, qubits]`` and start weights ``[layers, qubits, 2]`` in radians."""
    generator = np.random.default_rng(0)
    return {
        "command": "setup",
        "inputs": generator.uniform(0, np.pi, (ROWS, QUBITS)).tolist(),
        "targets": generator.choice([-1.0, 1.0], (ROWS, QUBITS)).tolist(),
        "weights": generator.uniform(-np.pi, np.pi, (LAYERS, QUBITS, 2)).tolist(),
    }


@case(
    "gradient",
    f"one full-batch gradient-descent step of a {QUBITS}-qubit part with {2 * LAYERS * QUBITS} trainable angles ({LAYERS} layers of RY, RZ"
    f" and a CZ ring) on {ROWS} samples, mean squared error of Z on every qubit, one thread a side, the sides taking turns;"
    " processor time unless the clock is named.",
)
def run(repeats: int) -> Outcome:
    """Times the engine (which the evaluator uses) and QuantumLayer (torch autograd, as PennyLane's torch interface) beside PennyLane."""
    notes: list[str] = []
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        sides = {}
        for name in ("engine", "layer"):
            sides[name] = stack.enter_context(Worker(sys.executable, "qumos_worker.py", search_path=True))
        gradients = {name: worker.ask(workload() | {"variant": name})["gradient"] for name, worker in sides.items()}
        try:
            peer = stack.enter_context(Worker(peer_python(PENNYLANE), "pennylane_worker.py", search_path=False))
            answer = peer.ask(workload())
        except PeerUnavailable as error:
            notes.append(f"PennyLane: peer not available ({error}).")
        else:
            sides["peer"], gradients["peer"] = peer, answer["gradient"]
            versions = answer["versions"]
            speeds = ", ".join(f"{name} {1e3 * seconds:.3g} ms" for name, seconds in answer["configurations"].items())
            notes.append(f"PennyLane runs in the fastest of its configurations here, {answer['chosen']} ({speeds}).")
            notes.append(
                "Frameworks that compile every new circuit (JAX) are not in this table: a search trains each circuit only briefly."
            )
        for name, found in gradients.items():
            worst = float(np.abs(np.array(found) - np.array(gradients["engine"])).max())
            if worst > _TOLERANCE:
                raise Disagreement(f"gradient: {name} differs from the engine by {worst:.1e}, so the times cannot be compared")
        times = take_turns(sides, repeats)
    rows = [
        Row("qumos_env engine", "ms", (1e3 * times["engine"].processor).tolist()),
        Row("qumos_env QuantumLayer", "ms", (1e3 * times["layer"].processor).tolist()),
    ]
    if "peer" in times:
        theirs = times["peer"]
        rows += [
            Row("PennyLane default.qubit, backprop", "ms", (1e3 * theirs.processor).tolist()),
            Row("PennyLane / engine", "x", (theirs.processor / times["engine"].processor).tolist(), RATIO),
            Row("PennyLane / engine, by the clock", "x", (theirs.clock / times["engine"].clock).tolist()),
            Row("PennyLane / QuantumLayer", "x", (theirs.processor / times["layer"].processor).tolist()),
        ]
    return Outcome(rows, notes, versions)
