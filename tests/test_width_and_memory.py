"""Wide registers, batches in chunks, threads: the same figures within a bounded memory."""

from __future__ import annotations

import subprocess
import sys

import cirq
import numpy as np
import pytest
import sympy

from qumos_env import QuantumLayer
from qumos_env.errors import QumosError
from qumos_env.simulation.adjoint import CircuitEngine, Observable
from qumos_env.simulation.instructions import Program
from qumos_env.simulation.program import compile_circuit


def layered(n_qubits: int, layers: int = 1) -> tuple[Program, list[Observable], cirq.Circuit, list[cirq.LineQubit]]:
    line = cirq.LineQubit.range(n_qubits)
    operations = [cirq.ry(sympy.Symbol(f"x{i}")).on(q) for i, q in enumerate(line)]
    for layer in range(layers):
        operations += [cirq.rx(sympy.Symbol(f"w{layer * n_qubits + i}")).on(q) for i, q in enumerate(line)]
        operations += [cirq.CZ(*pair) for pair in zip(line, line[1:], strict=False)]
        operations += [cirq.ry(sympy.Symbol(f"x{i}")).on(line[i]) for i in range(min(2, n_qubits))]
    circuit = cirq.Circuit(operations)
    program = compile_circuit(circuit, line, [f"x{i}" for i in range(n_qubits)])
    return program, [Observable.from_cirq(cirq.PauliString(cirq.Z(q)), line) for q in line], circuit, line


@pytest.mark.parametrize("route", ["unitary", "states"])
def test_chunks_give_what_one_batch_gives(route: str) -> None:
    program, observables, _, _ = layered(4)
    generator = np.random.default_rng(0)
    inputs, weights = generator.uniform(0, 3, (37, 4)), generator.uniform(-3, 3, 4)
    cotangents = generator.normal(size=(37, 4))
    whole = CircuitEngine(program, observables, route)  # type: ignore[arg-type]
    pieces = CircuitEngine(program, observables, route, memory_limit=8 * 24 * 8 * 2**4)  # type: ignore[arg-type]
    batch = pieces.encode(inputs)
    assert [len(chunk) for chunk in batch.chunks] == [8, 8, 8, 8, 5] and batch.states.size == 0
    results = []
    for engine in (whole, pieces):
        values, tape = engine.forward(weights, engine.encode(inputs))
        results.append([values, *engine.backward(tape, cotangents, inputs=True)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("n_qubits", [10, 16, 20])
def test_wide_registers_agree_with_cirq(n_qubits: int) -> None:
    program, observables, circuit, line = layered(n_qubits)
    generator = np.random.default_rng(n_qubits)
    inputs, weights = generator.uniform(0, 3, (1, n_qubits)), generator.uniform(-3, 3, n_qubits)
    engine = CircuitEngine(program, observables, threads=2)
    values, tape = engine.forward(weights, engine.encode(inputs))

    def exact(weights: np.ndarray) -> np.ndarray:
        resolver = {f"x{i}": inputs[0, i] for i in range(n_qubits)} | {f"w{i}": weights[i] for i in range(n_qubits)}
        simulator = cirq.Simulator(dtype=np.complex128)
        return np.real(simulator.simulate_expectation_values(circuit, [cirq.Z(q) for q in line], resolver, qubit_order=line))

    np.testing.assert_allclose(values[0], exact(weights), atol=2e-5)
    gradient = engine.backward(tape, np.ones((1, n_qubits)))[0]
    # The parameter-shift rule on the oracle gives one entry of the gradient.
    shift = np.zeros(n_qubits)
    shift[1] = np.pi / 2
    assert gradient[1] == pytest.approx((exact(weights + shift).sum() - exact(weights - shift).sum()) / 2, abs=2e-4)


def test_threads_change_nothing_but_the_time() -> None:
    program, observables, _, _ = layered(12)
    generator = np.random.default_rng(1)
    inputs, weights = generator.uniform(0, 3, (5, 12)), generator.uniform(-3, 3, 12)
    one, two = (CircuitEngine(program, observables, threads=threads) for threads in (1, 2))
    np.testing.assert_allclose(one.forward(weights, one.encode(inputs))[0], two.forward(weights, two.encode(inputs))[0], atol=1e-6)


def test_a_register_too_wide_for_memory_says_what_it_needs() -> None:
    line = cirq.LineQubit.range(26)
    circuit = cirq.Circuit(cirq.ry(sympy.Symbol("w")).on_each(*line))
    with pytest.raises(QumosError, match=r"register of 26 needs 8,192 MiB a sample, memory_limit is 1,024 MiB"):
        QuantumLayer(circuit, [cirq.Z(line[0])])
    with pytest.raises(QumosError, match="threads is 0"):
        QuantumLayer(cirq.Circuit(cirq.ry(sympy.Symbol("w")).on(line[0])), [cirq.Z(line[0])], threads=0)


def test_a_unitary_too_wide_for_memory_says_what_it_needs() -> None:
    """The route of the caller's choice holds 2**n columns, whatever the batch."""
    program, observables, _, _ = layered(14)
    CircuitEngine(program, observables, "states")
    with pytest.raises(QumosError, match=r"register of 14 needs .* on the route 'unitary', memory_limit is 1,024 MiB"):
        CircuitEngine(program, observables, "unitary")


def test_a_limit_in_floating_point_counts_like_another() -> None:
    program, observables, _, _ = layered(3)
    assert CircuitEngine(program, observables, memory_limit=1e4).encode(np.ones((99, 3))).chunks  # type: ignore[arg-type]


PEAK = """
import sys
import numpy as np
from tests.test_width_and_memory import layered
from qumos_env.simulation.adjoint import CircuitEngine
program, observables, _, _ = layered(12)
def peak():
    # Not ru_maxrss, which a child inherits from its parent.
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
def step(size, limit):
    engine = CircuitEngine(program, observables, memory_limit=limit)
    values, tape = engine.forward(np.ones(12), engine.encode(np.ones((size, 12))))
    engine.backward(tape, np.ones((size, 12)), inputs=True)
step(1, 2**30)
before = peak()
step(int(sys.argv[1]), 2**26)
print(peak() - before)
"""


def test_memory_stays_under_the_limit_whatever_the_batch() -> None:
    """4,096 samples of 12 qubits would take 128 MiB per array of states; the limit is 64 MiB in all."""
    found = subprocess.run([sys.executable, "-c", PEAK, "4096"], capture_output=True, text=True, check=True)
    assert 0 < int(found.stdout) < 2**26
