"""Worker of the case ``gradient``: this library. See ``benchmarks.workers`` for the protocol."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import cirq
import numpy as np
import sympy
import torch

from qumos_env.simulation.adjoint import CircuitEngine, Observable
from qumos_env.simulation.layer import QuantumLayer
from qumos_env.simulation.program import compile_circuit

RATE = 1e-3
Gradient = Callable[[np.ndarray], np.ndarray]


def circuit(n_qubits: int, layers: int) -> tuple[cirq.Circuit, list[str], list[str]]:
    """The circuit, with the names of its inputs and of its weights in the order of ``[layers, qubits, 2]``."""
    line = cirq.LineQubit.range(n_qubits)
    inputs, weights = [f"x{q}" for q in range(n_qubits)], [f"w{i}" for i in range(2 * n_qubits * layers)]
    made = cirq.Circuit(cirq.ry(sympy.Symbol(name))(qubit) for name, qubit in zip(inputs, line, strict=True))
    names = iter(weights)
    for _ in range(layers):
        for qubit in line:
            made.append([cirq.ry(sympy.Symbol(next(names)))(qubit), cirq.rz(sympy.Symbol(next(names)))(qubit)])
        made.append(cirq.CZ(line[q], line[(q + 1) % n_qubits]) for q in range(n_qubits))
    return made, inputs, weights


def engine_gradient(inputs: np.ndarray, targets: np.ndarray, shape: tuple[int, ...]) -> Gradient:
    """Through the engine, the loss in closed form: what training does."""
    made, input_names, weight_names = circuit(inputs.shape[1], shape[0])
    line = cirq.LineQubit.range(inputs.shape[1])
    observables = [Observable.from_cirq(cirq.PauliString(cirq.Z(qubit)), line) for qubit in line]
    engine = CircuitEngine(compile_circuit(made, line, input_names, weight_names), observables)
    batch = engine.encode(inputs)

    def gradient(weights: np.ndarray) -> np.ndarray:
        values, tape = engine.forward(weights.ravel(), batch)
        return engine.backward(tape, 2 * (values - targets) / targets.size)[0].reshape(shape)

    return gradient


def layer_gradient(inputs: np.ndarray, targets: np.ndarray, shape: tuple[int, ...]) -> Gradient:
    """Through QuantumLayer and torch's autograd, the inputs encoded anew in every step."""
    made, input_names, weight_names = circuit(inputs.shape[1], shape[0])
    layer = QuantumLayer(made, [cirq.Z(qubit) for qubit in cirq.LineQubit.range(inputs.shape[1])], input_names, weight_names)
    rows, wanted = torch.tensor(inputs), torch.tensor(targets, dtype=torch.float32)

    def gradient(weights: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            layer.weights.copy_(torch.from_numpy(weights.ravel()))
        layer.weights.grad = None
        torch.nn.functional.mse_loss(layer(rows), wanted).backward()
        assert layer.weights.grad is not None
        return layer.weights.grad.double().numpy().reshape(shape)

    return gradient


def main() -> None:
    """Answers questions until standard input ends."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        question = json.loads(line)
        if question["command"] == "setup":
            inputs, targets, weights = (np.array(question[name]) for name in ("inputs", "targets", "weights"))
            make = {"engine": engine_gradient, "layer": layer_gradient}[question["variant"]]
            gradient = make(inputs, targets, weights.shape)
            answer: dict[str, object] = {"gradient": gradient(weights).tolist()}
        else:
            clock, processor = time.perf_counter(), time.process_time()
            for _ in range(question["calls"]):
                weights = weights - RATE * gradient(weights)
            answer = {"seconds": time.process_time() - processor, "clock": time.perf_counter() - clock}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
