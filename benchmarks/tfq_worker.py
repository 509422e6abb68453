"""Worker: TensorFlow Quantum with its adjoint differentiator."""

from __future__ import annotations

import os

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}  # before TensorFlow starts
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

import cirq
import numpy as np
import sympy
import tensorflow as tf  # type: ignore[import-not-found, import-untyped, unused-ignore]
import tensorflow_quantum as tfq  # type: ignore[import-not-found]

from .serving import Configurations, Model, Workload, serve

_ROTATION = {"x": cirq.rx, "y": cirq.ry, "z": cirq.rz}
_PAIR = {"cz": cirq.CZ, "cx": cirq.CX}


def model(work: Workload, *, graph: bool) -> Model:
    """One circuit for all rows, inputs and weights as its symbols; optionally in a ``tf.function``."""
    line = cirq.GridQubit.rect(1, work.n_qubits)
    inputs = [f"x{q}" for q in range(work.n_qubits)]
    names = [f"w{number}" for number in range(work.weights.size)]
    circuit = cirq.Circuit(cirq.ry(sympy.Symbol(name))(qubit) for name, qubit in zip(inputs, line, strict=True))
    for kind, qubits, place in work.gates():
        named = None if place is None else sympy.Symbol(names[np.ravel_multi_index(place, work.weights.shape)])
        gate = _PAIR[kind] if named is None else _ROTATION[kind](named)
        circuit.append(gate.on(*(line[q] for q in qubits)))
    layer = tfq.layers.Expectation(differentiator=tfq.differentiators.Adjoint())
    rows, targets = tf.constant(work.inputs, tf.float32), tf.constant(work.targets, tf.float32)
    circuits = tf.repeat(tfq.convert_to_tensor([circuit]), len(work.inputs))
    operators = tf.repeat(tfq.convert_to_tensor([[cirq.Z(qubit) for qubit in line]]), len(work.inputs), axis=0)

    def values(weights: tf.Tensor) -> tf.Tensor:
        everything = tf.concat([rows, tf.repeat(weights[None], len(work.inputs), axis=0)], axis=1)
        return layer(circuits, symbol_names=[*inputs, *names], symbol_values=everything, operators=operators)

    def slope(weights: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = tf.reduce_mean((values(weights) - targets) ** 2)
        return tape.gradient(loss, weights)

    forward, gradient = (tf.function(values), tf.function(slope)) if graph else (values, slope)

    def flat(weights: np.ndarray) -> tf.Tensor:
        return tf.constant(weights.ravel(), tf.float32)

    return Model(
        lambda weights: forward(flat(weights)).numpy().astype(float),
        lambda weights: gradient(flat(weights)).numpy().astype(float).reshape(weights.shape),
    )


def configurations(work: Workload) -> Configurations:
    """Eager, and as a graph."""
    return {"eager": lambda: model(work, graph=False), "tf.function": lambda: model(work, graph=True)}


if __name__ == "__main__":
    serve({"default": configurations}, ("tensorflow-quantum", "tensorflow"))
