"""Gradient methods held against each other, against Cirq in double precision, and from shots against their statistics."""

from __future__ import annotations

import math

import cirq
import numpy as np
import pytest
import sympy
import torch

from qumos_env.errors import QumosError
from qumos_env.simulation.adjoint import CircuitEngine, Observable
from qumos_env.simulation.channels import NoiseSpec, ReadoutError
from qumos_env.simulation.gradients import GRADIENT_METHODS, Engine, expectation_gradient, sampled_expectations
from qumos_env.simulation.layer import QuantumLayer
from qumos_env.simulation.noise import NoisyEngine
from qumos_env.simulation.program import compile_circuit

LINE = cirq.LineQubit.range(4)
INPUTS = ["x0", "x1"]
SPEC = NoiseSpec(0.02, 0.05, 0.03, 0.04)


def circuit(n_qubits: int, seed: int) -> cirq.Circuit:
    """Weights w0 to w3, each in several gates with several scales, one of them in gates that Cirq decomposes; a re-uploaded input."""
    generator = np.random.default_rng(seed)
    w, x = sympy.symbols("w0:4"), sympy.symbols("x0:2")
    qubits = LINE[:n_qubits]
    built = cirq.Circuit(cirq.ry(x[index % 2])(qubit) for index, qubit in enumerate(qubits))
    for step in range(6):
        one = qubits[generator.integers(n_qubits)]
        axis = [cirq.rx, cirq.ry, cirq.rz][generator.integers(3)]
        built.append(axis(w[step % 4] * [1.0, 2.0, -0.7][step % 3] + 0.1 * step)(one))
        if n_qubits > 1:
            a, b = (qubits[index] for index in generator.choice(n_qubits, 2, replace=False))
            built.append([cirq.CX(a, b), cirq.CZ(a, b) ** w[3], cirq.XXPowGate(exponent=w[1])(a, b)][step % 3])
        if step == 3:
            built.append(cirq.rx(0.5 * x[1])(one))
    built.append(cirq.ry(sympy.Symbol(f"w{index}"))(qubits[0]) for index in range(4))
    return built


def observables(n_qubits: int) -> list[cirq.PauliSum]:
    last = LINE[n_qubits - 1]
    return [cirq.PauliSum.wrap(1.0 * cirq.Z(LINE[0])), cirq.X(LINE[0]) * (cirq.Y(last) if n_qubits > 1 else 1) + 0.5 * cirq.Z(last)]


def engine(kind: str, n_qubits: int, seed: int) -> Engine:
    built = circuit(n_qubits, seed) + cirq.Circuit(cirq.rz(sympy.Symbol("x1"))(LINE[0]))
    weights = [f"w{index}" for index in range(4)]
    if kind == "noisy":
        return NoisyEngine.from_circuit(
            built, LINE[:n_qubits], observables(n_qubits), INPUTS, weights, noise=SPEC, readout=ReadoutError(0.02, 0.05)
        )
    program = compile_circuit(built, LINE[:n_qubits], INPUTS, weights)
    return CircuitEngine(program, [Observable.from_cirq(item, LINE[:n_qubits]) for item in observables(n_qubits)])


def numbers(seed: int = 0, batch: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.uniform(-2, 2, 4), generator.uniform(-2, 2, (batch, 2)), generator.normal(size=(batch, 2))


@pytest.mark.parametrize("kind", ["exact", "noisy"])
@pytest.mark.parametrize("n_qubits", [1, 2, 3, 4])
def test_exact_methods_agree(kind: str, n_qubits: int) -> None:
    for seed in range(3):
        tested = engine(kind, n_qubits, seed)
        weights, inputs, cotangents = numbers(seed)
        adjoint = expectation_gradient(tested, weights, inputs, cotangents)
        assert np.abs(adjoint).max() > 0.1
        shifted = expectation_gradient(tested, weights, inputs, cotangents, "parameter-shift")
        np.testing.assert_allclose(shifted, adjoint, atol=1e-4)
        # Steps of this size leave step²/6 times the third derivative, which Richardson's combination takes away.
        near, far = (expectation_gradient(tested, weights, inputs, cotangents, "finite-difference", step=step) for step in (0.01, 0.02))
        np.testing.assert_allclose(near, adjoint, atol=3e-3, rtol=2e-3)
        np.testing.assert_allclose((4 * near - far) / 3, adjoint, atol=5e-4)


def test_parameter_shift_is_cirqs_derivative() -> None:
    """Against central differences of cirq.Simulator in double precision, with one weight in two gates of different scale."""
    w = sympy.Symbol("w")
    a, b = LINE[:2]
    built = cirq.Circuit(cirq.ry(2 * w + 0.3)(a), cirq.CX(a, b), cirq.rx(-0.7 * w)(b), cirq.ZZPowGate(exponent=w)(a, b), cirq.H(a))
    observable = cirq.X(a) * cirq.Z(b) + 0.5 * cirq.Z(a)
    tested = CircuitEngine(compile_circuit(built, [a, b]), [Observable.from_cirq(observable, [a, b])])

    def exact(weight: float) -> float:
        state = cirq.Simulator(dtype=np.complex128).simulate(built, {"w": weight}).final_state_vector
        return observable.expectation_from_state_vector(state, {a: 0, b: 1}).real

    expected = (exact(0.6 + 1e-4) - exact(0.6 - 1e-4)) / 2e-4
    found = expectation_gradient(tested, np.array([0.6]), np.zeros((1, 0)), np.ones((1, 1)), "parameter-shift")
    assert found[0] == pytest.approx(expected, abs=1e-4)


def test_circuits_that_each_method_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two per occurrence, two per weight, two in all."""
    a, b = LINE[:2]
    w, v = sympy.symbols("w v")
    built = cirq.Circuit(cirq.ry(w)(a), cirq.rx(2 * w)(b), cirq.ZZ(a, b) ** w, cirq.rx(v)(a))
    tested = CircuitEngine(compile_circuit(built, [a, b]), [Observable.from_cirq(cirq.Z(a), [a, b])])
    runs = []
    forward = CircuitEngine.forward
    monkeypatch.setattr(CircuitEngine, "forward", lambda self, *args: runs.append(1) or forward(self, *args))
    for method, expected in (("parameter-shift", 8), ("finite-difference", 4), ("spsa", 2)):
        runs.clear()
        generator = np.random.default_rng(0)
        expectation_gradient(tested, np.array([0.1, 0.2]), np.zeros((1, 0)), np.ones((1, 1)), method, generator=generator)
        assert len(runs) == expected, method


@pytest.mark.parametrize("kind", ["exact", "noisy"])
def test_spsa_is_unbiased(kind: str) -> None:
    tested = engine(kind, 2, 0)
    weights, inputs, cotangents = numbers()
    exact = expectation_gradient(tested, weights, inputs, cotangents)
    generator = np.random.default_rng(1)
    draws = np.array([expectation_gradient(tested, weights, inputs, cotangents, "spsa", generator=generator) for _ in range(800)])
    errors = draws.std(axis=0) / math.sqrt(len(draws))
    assert errors.max() < 0.25 * np.abs(exact).max()
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - exact), 4 * errors + 0.01)


@pytest.mark.parametrize("kind", ["exact", "noisy"])
def test_parameter_shift_from_shots_is_unbiased_and_reproducible(kind: str) -> None:
    tested = engine(kind, 2, 0)
    weights, inputs, cotangents = numbers()
    exact = expectation_gradient(tested, weights, inputs, cotangents)

    def drawn(seed: int, shots: int) -> np.ndarray:
        generator = np.random.default_rng(seed)
        return expectation_gradient(tested, weights, inputs, cotangents, "parameter-shift", generator=generator, shots=shots)

    np.testing.assert_array_equal(drawn(0, 10), drawn(0, 10))
    assert not np.array_equal(drawn(0, 10), drawn(1, 10))
    few, many = (np.array([drawn(seed, shots) for seed in range(30)]) for shots in (25, 400))
    errors = few.std(axis=0) / math.sqrt(len(few))
    np.testing.assert_array_less(np.abs(few.mean(axis=0) - exact), 4 * errors)
    assert np.linalg.norm(few.std(axis=0)) / np.linalg.norm(many.std(axis=0)) == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize("method", ["finite-difference", "spsa"])
def test_differences_from_shots_approach_the_gradient(method: str) -> None:
    tested = engine("exact", 1, 0)
    weights, inputs, cotangents = numbers()
    exact = expectation_gradient(tested, weights, inputs, cotangents)
    generator = np.random.default_rng(0)
    draws = [
        expectation_gradient(tested, weights, inputs, cotangents, method, generator=generator, shots=2000, step=0.1) for _ in range(300)
    ]
    errors = np.std(draws, axis=0) / math.sqrt(len(draws))
    # Beside the sampling error the curvature's, of order step².
    np.testing.assert_array_less(np.abs(np.mean(draws, axis=0) - exact), 4 * errors + 0.1)


def test_an_encoded_batch_and_one_in_chunks_serve_as_well() -> None:
    weights, inputs, cotangents = numbers(batch=11)
    tested = engine("exact", 3, 1)
    assert isinstance(tested, CircuitEngine)
    chunked = CircuitEngine(tested.program, tested.observables, memory_limit=4000)
    assert len(chunked.encode(inputs).chunks) > 1
    expected = expectation_gradient(tested, weights, inputs, cotangents)
    for method in ("adjoint", "parameter-shift"):
        for one in (tested, chunked):
            np.testing.assert_allclose(expectation_gradient(one, weights, one.encode(inputs), cotangents, method), expected, atol=1e-4)
    first, second = (sampled_expectations(one, weights, inputs, 20000, np.random.default_rng(0)) for one in (tested, chunked))
    np.testing.assert_allclose(first, second, atol=0.1)


def test_shots_of_a_batch_in_chunks_hold_one_chunk_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, inputs, _ = numbers(batch=11)
    tested = engine("exact", 3, 1)
    assert isinstance(tested, CircuitEngine)
    chunked = CircuitEngine(tested.program, tested.observables, memory_limit=4000)
    encoded = []
    encode, forward = chunked._encode, chunked.forward
    monkeypatch.setattr(chunked, "_encode", lambda rows, **settings: encoded.append("encode") or encode(rows, **settings))
    monkeypatch.setattr(chunked, "forward", lambda *given: encoded.append("forward") or forward(*given))
    sampled_expectations(chunked, weights, chunked.encode(inputs), 10, np.random.default_rng(0))
    # The first is of the batch itself, which keeps its inputs only.
    assert len(encoded) > 4 and encoded[1:] == ["encode", "forward"] * (len(encoded) // 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.Adam(parameters, lr=0.1),
        lambda parameters: torch.optim.Adam(parameters, lr=0.1, amsgrad=True),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    ],
    ids=["Adam", "AMSGrad", "SGD with momentum"],
)
def test_a_layer_trains_with_each_optimiser(make: object) -> None:
    a, b = LINE[:2]
    w = sympy.symbols("w0:4")
    built = cirq.Circuit(cirq.ry(w[0])(a), cirq.ry(w[1])(b), cirq.CZ(a, b), cirq.rx(w[2])(a), cirq.ry(w[3])(b))
    layer = QuantumLayer(built, [cirq.Z(a), cirq.Z(b)], initial_weights=[0.3, 0.2, -0.4, 0.5])
    optimiser = make(layer.parameters())  # type: ignore[operator]
    inputs = torch.zeros((1, 0))
    for _ in range(80):
        optimiser.zero_grad()
        layer(inputs).sum().backward()
        optimiser.step()
    assert layer(inputs).sum().item() < -1.9


# Bad input


@pytest.mark.parametrize("kind", ["exact", "noisy"])
def test_requests_that_cannot_be_met(kind: str) -> None:
    tested = engine(kind, 2, 0)
    weights, inputs, cotangents = numbers()
    generator = np.random.default_rng(0)
    cases: list[tuple[str, dict[str, object]]] = [
        ("unknown gradient method 'adjont'; did you mean adjoint", {"method": "adjont"}),
        ("shots: adjoint gradients are exact", {"shots": 10, "generator": generator}),
        ("shots is 0", {"method": "parameter-shift", "shots": 0, "generator": generator}),
        ("shots is 1.5", {"method": "parameter-shift", "shots": 1.5, "generator": generator}),
        ("generator: shots are random", {"method": "parameter-shift", "shots": 10}),
        ("generator: spsa", {"method": "spsa"}),
        ("step is -0.1", {"method": "finite-difference", "step": -0.1}),
        ("step is nan", {"method": "finite-difference", "step": math.nan}),
        (r"cotangents: shape \[3, 2\]", {"cotangents": cotangents[:2]}),
        ("cotangents: a value is not finite", {"cotangents": cotangents * math.nan}),
        ("weights: value 0 is not finite", {"weights": weights * math.inf, "method": "parameter-shift"}),
        (r"weights: shape \[4\]", {"weights": weights[:3], "method": "spsa", "generator": generator}),
        ("inputs: the batch is empty", {"batch": inputs[:0]}),
        ("inputs: value at row 0, column 0", {"batch": inputs * math.nan}),
    ]
    for message, changes in cases:
        given = {"weights": weights, "batch": inputs, "cotangents": cotangents} | changes
        with pytest.raises(QumosError, match=message):
            expectation_gradient(tested, **given)  # type: ignore[arg-type]


def test_the_methods_are_those_that_services_offer() -> None:
    assert list(GRADIENT_METHODS) == ["adjoint", "parameter-shift", "finite-difference", "spsa"]
