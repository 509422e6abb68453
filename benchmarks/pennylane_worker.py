"""Worker of the case ``gradient``: PennyLane. Runs in its own environment, without qumos_env; see ``benchmarks.workers``.

It tries the interfaces, precisions and encodings that keep the whole batch in one broadcast execution, and keeps the fastest.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import pennylane as qml  # type: ignore[import-not-found]
import torch
from pennylane import numpy as pnp

RATE = 1e-3
Gradient = Callable[[np.ndarray], np.ndarray]


def node(n_qubits: int, layers: int, interface: str, *, states: bool) -> qml.QNode:
    """⟨Z⟩ of every qubit for weights ``[layers, qubits, 2]`` and a broadcast batch of angles, or of product ``states``."""

    def body(weights: object, rows: object) -> list[object]:
        if states:
            qml.StatePrep(rows, wires=range(n_qubits))
        else:
            for q in range(n_qubits):
                qml.RY(rows[:, q], wires=q)  # type: ignore[index]
        for layer in range(layers):
            for q in range(n_qubits):
                qml.RY(weights[layer, q, 0], wires=q)  # type: ignore[index]
                qml.RZ(weights[layer, q, 1], wires=q)  # type: ignore[index]
            for q in range(n_qubits):
                qml.CZ(wires=[q, (q + 1) % n_qubits])
        return [qml.expval(qml.PauliZ(q)) for q in range(n_qubits)]

    return qml.QNode(body, qml.device("default.qubit", wires=n_qubits), interface=interface, diff_method="backprop")


def product_states(angles: np.ndarray) -> np.ndarray:
    """The RY-encoded product states ``[rows, 2**qubits]``, made once as qumos_env does, outside the measurement."""
    states = np.ones((len(angles), 1))
    for column in angles.T:
        qubit = np.stack([np.cos(column / 2), np.sin(column / 2)], axis=1)
        states = (states[:, :, None] * qubit[:, None, :]).reshape(len(angles), -1)
    return states


def torch_gradient(rows: np.ndarray, targets: np.ndarray, layers: int, dtype: torch.dtype, *, states: bool) -> Gradient:
    """Of the mean squared error, by torch."""
    circuit = node(targets.shape[1], layers, "torch", states=states)
    data, wanted = torch.tensor(rows, dtype=dtype), torch.tensor(targets, dtype=dtype)

    def gradient(weights: np.ndarray) -> np.ndarray:
        variable = torch.tensor(weights, dtype=dtype, requires_grad=True)
        values = torch.stack(circuit(variable, data), 1).to(dtype)
        torch.nn.functional.mse_loss(values, wanted).backward()
        assert variable.grad is not None
        return variable.grad.double().numpy()

    return gradient


def autograd_gradient(rows: np.ndarray, targets: np.ndarray, layers: int, *, states: bool) -> Gradient:
    """Of the mean squared error, by autograd."""
    circuit = node(targets.shape[1], layers, "autograd", states=states)
    data, wanted = pnp.array(rows, requires_grad=False), pnp.array(targets, requires_grad=False)
    slope = qml.grad(lambda weights: pnp.mean((pnp.stack(circuit(weights, data), 1) - wanted) ** 2))
    return lambda weights: np.asarray(slope(pnp.array(weights, requires_grad=True)))


def seconds(gradient: Gradient, weights: np.ndarray, calls: int) -> tuple[float, float]:
    """Of ``calls`` steps of gradient descent: processor time, then time by the clock."""
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(calls):
        weights = weights - RATE * gradient(weights)
    return time.process_time() - processor, time.perf_counter() - clock


def configurations(inputs: np.ndarray, targets: np.ndarray, layers: int) -> dict[str, Gradient]:
    """The candidates."""
    found: dict[str, Gradient] = {}
    for states, encoding in ((True, "StatePrep"), (False, "RY")):
        rows = product_states(inputs) if states else inputs
        for dtype in (torch.float32, torch.float64):
            found[f"torch {str(dtype)[6:]} {encoding}"] = torch_gradient(rows, targets, layers, dtype, states=states)
        found[f"autograd {encoding}"] = autograd_gradient(rows, targets, layers, states=states)
    return found


def main() -> None:
    """Answers questions until standard input ends."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        question = json.loads(line)
        if question["command"] == "setup":
            inputs, targets, weights = (np.array(question[name]) for name in ("inputs", "targets", "weights"))
            candidates = configurations(inputs, targets, len(weights))
            for candidate in candidates.values():
                seconds(candidate, weights, 3)  # warm-up
            speeds = {name: min(seconds(candidate, weights, 5)[0] for _ in range(5)) / 5 for name, candidate in candidates.items()}
            chosen = min(speeds, key=lambda name: speeds[name])
            gradient = candidates[chosen]
            answer: dict[str, object] = {
                "gradient": gradient(weights).tolist(),
                "chosen": chosen,
                "configurations": speeds,
                "versions": {"pennylane": version("pennylane"), "torch beside pennylane": version("torch")},
            }
        else:
            processor, clock = seconds(gradient, weights, question["calls"])
            answer = {"seconds": processor, "clock": clock}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
