"""Many models at once: the dense route against qsim's, against single trainings, and its packing."""

from __future__ import annotations

import cirq
import numpy as np
import pytest
import sympy

from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import contiguous, ry_cz_ry
from qumos_env.errors import QumosError
from qumos_env.model.qnn import QNN
from qumos_env.scenario.sections import ModelSection
from qumos_env.simulation.adjoint import CircuitEngine, Observable
from qumos_env.simulation.dense import DenseEngine
from qumos_env.simulation.program import compile_circuit


def random_circuit(n_qubits: int, gates: int, generator: np.random.Generator) -> tuple[cirq.Circuit, list[cirq.LineQubit], int]:
    """Encoding, then random gates of every kind that a design can hold, re-uploads in the middle included."""
    line = cirq.LineQubit.range(n_qubits)
    operations: list[cirq.Operation] = [cirq.ry(sympy.Symbol(f"x{i}")).on(q) for i, q in enumerate(line)]
    weights = 0
    for _ in range(gates):
        kind = generator.integers(9)
        a, b = (line[i] for i in generator.permutation(n_qubits)[:2]) if n_qubits > 1 else (line[0], None)
        weight = sympy.Symbol(f"w{weights}")
        if kind < 3:
            operations.append((cirq.rx, cirq.ry, cirq.rz)[kind](weight).on(a))
            weights += 1
        elif kind == 3 or b is None:
            operations.append(cirq.H(a))
        elif kind == 4:
            operations.append(cirq.CZ(a, b))
        elif kind == 5:
            operations.append(cirq.CX(a, b))
        elif kind == 6:
            operations.append(cirq.ZZPowGate(exponent=weight / sympy.pi, global_shift=-0.5).on(a, b))
            weights += 1
        elif kind == 7:
            operations.append((cirq.XX if generator.integers(2) else cirq.YY)(a, b) ** weight)
            weights += 1
        else:
            operations.append(cirq.ry(sympy.Symbol(f"x{line.index(a)}")).on(a))
    operations.append(cirq.ry(sympy.Symbol(f"w{weights}")).on(line[0]))
    return cirq.Circuit(operations), line, weights + 1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n_qubits", [1, 2, 3, 4, 5])
def test_values_and_gradients_equal_those_of_qsim(n_qubits: int, seed: int) -> None:
    generator = np.random.default_rng([n_qubits, seed])
    circuit, line, n_weights = random_circuit(n_qubits, 25, generator)
    program = compile_circuit(circuit, line, [f"x{i}" for i in range(n_qubits)])
    dense = DenseEngine(program)
    single = CircuitEngine(program, [Observable.from_cirq(cirq.PauliString(cirq.Z(q)), line) for q in line], "states")
    inputs, weights = generator.uniform(0, 3, (3, 7, n_qubits)), generator.uniform(-9, 9, (3, n_weights))
    cotangents = generator.normal(size=(3, 7, n_qubits))
    values, tape = dense.forward(weights, dense.encode(inputs))
    gradients = dense.backward(tape, cotangents)
    for model in range(3):
        expected, single_tape = single.forward(weights[model], single.encode(inputs[model]))
        np.testing.assert_allclose(values[model], expected, atol=1e-5)
        np.testing.assert_allclose(gradients[model], single.backward(single_tape, cotangents[model])[0], atol=1e-4)


def test_values_equal_those_of_cirq() -> None:
    generator = np.random.default_rng(5)
    circuit, line, n_weights = random_circuit(4, 40, generator)
    dense = DenseEngine(compile_circuit(circuit, line, [f"x{i}" for i in range(4)]))
    inputs, weights = generator.uniform(0, 3, (2, 3, 4)), generator.uniform(-3, 3, (2, n_weights))
    values, _ = dense.forward(weights, dense.encode(inputs))
    for model in range(2):
        for row in range(3):
            resolver = {f"x{i}": inputs[model, row, i] for i in range(4)} | {f"w{i}": weights[model, i] for i in range(n_weights)}
            simulator = cirq.Simulator(dtype=np.complex128)
            expected = simulator.simulate_expectation_values(circuit, [cirq.Z(q) for q in line], resolver, qubit_order=line)
            np.testing.assert_allclose(values[model, row], np.real(expected), atol=1e-5)


def test_shared_and_scaled_weights_add_up() -> None:
    a, b = cirq.LineQubit.range(2)
    w = sympy.Symbol("w")
    circuit = cirq.Circuit(cirq.ry(sympy.Symbol("x")).on(a), cirq.rx(2 * w + 0.3).on(a), cirq.CX(a, b), cirq.ry(w).on(b))
    dense = DenseEngine(compile_circuit(circuit, [a, b], ["x"]))
    batch = dense.encode(np.array([[[0.4], [1.9]]]))

    def loss(weight: float) -> float:
        return float(dense.forward(np.array([[weight]]), batch)[0].astype(float).sum())

    _, tape = dense.forward(np.array([[0.7]]), batch)
    gradient = dense.backward(tape, np.ones((1, 2, 2)))[0, 0]
    assert gradient == pytest.approx((loss(0.7 + 1e-2) - loss(0.7 - 1e-2)) / 2e-2, abs=1e-3)


def test_many_trainings_equal_single_ones() -> None:
    """Alike at the start and at the end, to what single precision leaves of twenty steps."""
    generator = np.random.default_rng(0)
    design = ry_cz_ry(contiguous(4, 2), ("a", "b"), 2)
    model = QNN(design, 2, ModelSection(steps=20))
    models = 4
    inputs, labels = generator.uniform(0, 3, (models, 20, 4)), generator.integers(2, size=(models, 20))
    keys = [(9, k) for k in range(models)]
    many = model.train_many(inputs, labels, keys)
    for k in range(models):
        single = model.train(inputs[k], labels[k], keys[k])
        np.testing.assert_allclose(many.angles[k], single.angles, atol=2e-2)
        np.testing.assert_allclose(
            model.probabilities(many, inputs)[k], model.probabilities(single, inputs[k]), atol=2e-2
        )


def test_batches_that_do_not_fit() -> None:
    circuit, line, _ = random_circuit(2, 5, np.random.default_rng(2))
    dense = DenseEngine(compile_circuit(circuit, line, ["x0", "x1"]))
    for inputs, message in (
        (np.zeros((2, 0, 2)), "inputs: the batch is empty"),
        (np.zeros((2, 3, 1)), r"inputs: shape \[batch, 2\]"),
        (np.full((2, 3, 2), np.inf), "inputs: .*not finite"),
    ):
        with pytest.raises(QumosError, match=message):
            dense.encode(inputs)


def test_models_do_not_see_each_other() -> None:
    generator = np.random.default_rng(1)
    gates = (Gate("ry", (0,)), Gate("rzz", (0, 1)), Gate("rx", (1,)), Gate("reupload", (0,)), Gate("ry", (0,)))
    model = QNN(Design((0, 0), ("a",), gates), 2, ModelSection(steps=5))
    inputs, labels = generator.uniform(0, 3, (4, 10, 2)), generator.integers(2, size=(4, 10))
    keys = [(3, k) for k in range(4)]
    before = model.train_many(inputs, labels, keys)
    inputs[3], labels[3] = 0.1, 0
    after = model.train_many(inputs, labels, keys)
    np.testing.assert_array_equal(before.angles[:3], after.angles[:3])
    assert not np.array_equal(before.angles[3], after.angles[3])
