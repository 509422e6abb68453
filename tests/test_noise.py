"""Noisy simulation against two independent oracles: ``cirq.DensityMatrixSimulator`` in double precision and dense Kraus algebra."""

from __future__ import annotations

import functools
import math
import pickle
import tracemalloc
from collections.abc import Sequence

import cirq
import numpy as np
import pytest
import sympy
from scipy.stats import chisquare

from qumos_env.errors import QumosError
from qumos_env.simulation.adjoint import CircuitEngine, Observable
from qumos_env.simulation.channels import NoiseSpec, ReadoutError, compile_noisy, superoperator
from qumos_env.simulation.gradients import sampled_expectations
from qumos_env.simulation.noise import NoisyEngine
from qumos_env.simulation.program import compile_circuit
from qumos_env.simulation.sampling import measurements, sampled_counts

VALUE_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
LINE = cirq.LineQubit.range(4)
PAULI = {"I": np.eye(2), "X": cirq.unitary(cirq.X), "Y": cirq.unitary(cirq.Y), "Z": cirq.unitary(cirq.Z)}
TURN = {"I": np.eye(2), "Z": np.eye(2), "X": cirq.unitary(cirq.ry(-math.pi / 2)), "Y": cirq.unitary(cirq.rx(math.pi / 2))}
SPEC = NoiseSpec(0.02, 0.05, 0.03, 0.04)


class Oracle:
    """A noisy circuit that Cirq runs sample by sample in double precision; readout errors by an explicit confusion matrix."""

    def __init__(self, noisy: cirq.Circuit, n_qubits: int, inputs: Sequence[str], weights: Sequence[str]) -> None:
        self.noisy, self.qubits, self.names = noisy, LINE[:n_qubits], [*weights, *inputs]
        self.simulator = cirq.DensityMatrixSimulator(dtype=np.complex128)

    def densities(self, weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        found = []
        for row in inputs:
            numbers = cirq.ParamResolver(dict(zip(self.names, [*weights, *row], strict=True)))
            found.append(self.simulator.simulate(self.noisy, numbers, qubit_order=self.qubits).final_density_matrix)
        return np.array(found)

    def values(self, weights: np.ndarray, inputs: np.ndarray, strings: Sequence[str], readout: ReadoutError) -> np.ndarray:
        """``[B, strings]``: each string's qubits are turned to Z, measured, and their outcomes confused."""
        columns = []
        densities = self.densities(weights, inputs)
        size = len(self.qubits)
        flip = np.array([[1 - readout.zero_as_one, readout.zero_as_one], [readout.one_as_zero, 1 - readout.one_as_zero]])
        confusion = functools.reduce(np.kron, [flip] * size)
        for string in strings:
            turn = functools.reduce(np.kron, [TURN[letter] for letter in string])
            probabilities = np.einsum("ij,bjk,ik->bi", turn, densities, turn.conj()).real
            signs = functools.reduce(np.kron, [[1, 1] if letter == "I" else [1, -1] for letter in string])
            columns.append(probabilities @ confusion @ signs)
        return np.stack(columns, axis=1)


def pauli_string(string: str) -> cirq.PauliString:
    return cirq.PauliString({LINE[index]: getattr(cirq, letter) for index, letter in enumerate(string) if letter != "I"})


def random_circuit(n_qubits: int, generator: np.random.Generator, *, channels: bool = False, reupload: bool = True) -> cirq.Circuit:
    """Inputs x0, x1, shared and scaled weights w0 to w3, fixed gates, and if asked for channels of one and two qubits."""
    qubits = LINE[:n_qubits]
    w, x = sympy.symbols("w0:4"), sympy.symbols("x0:2")
    circuit = cirq.Circuit(cirq.H(qubits[0])) if reupload else cirq.Circuit()
    circuit.append(cirq.ry(x[index % 2])(qubit) for index, qubit in enumerate(qubits))
    if reupload:
        circuit.append(cirq.rz(2 * x[0])(qubits[0]))
    circuit += cirq.ry(2 * w[0] + 0.3)(qubits[-1]), cirq.rx(-w[0])(qubits[0])
    rotations = [lambda angle: cirq.rx(angle), lambda angle: cirq.ry(angle), lambda angle: cirq.rz(angle)]
    products = [cirq.XXPowGate, cirq.YYPowGate, cirq.ZZPowGate]
    for step in range(5):
        one = qubits[generator.integers(n_qubits)]
        circuit.append(rotations[generator.integers(3)](w[step % 4] * [1.0, -0.7][step % 2])(one))
        circuit.append([cirq.S, cirq.T, cirq.H, cirq.Y**0.3][generator.integers(4)](one))
        if n_qubits > 1:
            a, b = generator.choice(n_qubits, 2, replace=False)
            circuit.append(products[generator.integers(3)](exponent=w[(step + 1) % 4] / sympy.pi)(LINE[a], LINE[b]))
            circuit.append([cirq.CZ, cirq.CX, cirq.ISWAP**0.5][generator.integers(3)](LINE[b], LINE[a]))
            if channels:
                circuit.append(cirq.depolarize(0.1, n_qubits=2)(LINE[a], LINE[b]))
        if channels:
            circuit.append([cirq.amplitude_damp(0.2), cirq.bit_flip(0.1), cirq.generalized_amplitude_damp(0.3, 0.2)][step % 3](one))
            circuit.append(cirq.asymmetric_depolarize(0.02, 0.05, 0.1)(one))
        if reupload and step == 2:
            circuit.append(cirq.ry(0.5 * x[0] - 0.1)(one))
    return circuit


class Case:
    """A random circuit, an engine for it and its oracle."""

    def __init__(self, n_qubits: int, seed: int, noise: str, route: str = "auto", batch: int = 2) -> None:
        generator = np.random.default_rng(seed)
        circuit = random_circuit(n_qubits, generator, channels=noise == "channels", reupload=route != "observables")
        circuit.append(cirq.rz(sympy.Symbol(f"w{index}"))(LINE[0]) for index in range(4))
        self.strings = ["Z" + "I" * (n_qubits - 1), "I" * (n_qubits - 1) + "X", "".join(generator.choice(list("XYZI"), n_qubits))]
        if set(self.strings[2]) == {"I"}:
            self.strings[2] = "Y" * n_qubits
        self.readout = ReadoutError(0.03, 0.08)
        names = ["x0", "x1"][:n_qubits]
        weights = ["w0", "w1", "w2", "w3"]
        model = {"spec": SPEC, "model": cirq.ConstantQubitNoiseModel(cirq.depolarize(0.03)), "channels": None}[noise]
        noisy = SPEC.noisy(circuit) if noise == "spec" else circuit.with_noise(model) if noise == "model" else circuit
        self.oracle = Oracle(noisy, n_qubits, names, weights)
        observables = [pauli_string(string) for string in self.strings]
        qubits = LINE[:n_qubits]
        self.engine = NoisyEngine.from_circuit(circuit, qubits, observables, names, weights, noise=model, readout=self.readout, route=route)
        self.weights, self.inputs = generator.uniform(-3, 3, 4), generator.uniform(-3, 3, (batch, len(names)))
        self.cotangents = generator.normal(size=(batch, 3))

    def exact(self, weights: np.ndarray) -> np.ndarray:
        return self.oracle.values(weights, self.inputs, self.strings, self.readout)


@pytest.mark.parametrize("noise", ["spec", "model", "channels"])
@pytest.mark.parametrize("n_qubits", [1, 2, 3, 4])
@pytest.mark.parametrize("route", ["samples", "observables"])
def test_random_noisy_circuits_agree_with_cirq(n_qubits: int, noise: str, route: str) -> None:
    case = Case(n_qubits, 10 * n_qubits + len(noise), noise, route)
    np.testing.assert_allclose(case.engine.forward(case.weights, case.inputs), case.exact(case.weights), atol=VALUE_TOLERANCE)
    if noise == "model" or (noise == "spec" and n_qubits > 2):
        return  # Cirq is slow, and these gradients add nothing to those of the others.
    found = case.engine.gradient(case.weights, case.inputs, case.cotangents)
    step = 1e-3
    shifts = step * np.eye(4)
    expected = [np.sum(case.cotangents * (case.exact(case.weights + s) - case.exact(case.weights - s))) / (2 * step) for s in shifts]
    np.testing.assert_allclose(found, expected, atol=GRADIENT_TOLERANCE, rtol=1e-5)


# Gradients by inputs, and what inputs are encoded into


def central_differences(case: Case, step: float = 1e-3) -> np.ndarray:
    """∂L/∂inputs of the oracle, ``[B, inputs]``."""
    slopes = np.zeros(case.inputs.shape)
    for column in range(case.inputs.shape[1]):
        shift = step * np.eye(case.inputs.shape[1])[column]
        ends = [case.oracle.values(case.weights, case.inputs + s, case.strings, case.readout) for s in (shift, -shift)]
        slopes[:, column] = np.sum(case.cotangents * (ends[0] - ends[1]), axis=1) / (2 * step)
    return slopes


@pytest.mark.parametrize(("n_qubits", "noise"), [(1, "spec"), (1, "channels"), (2, "spec"), (2, "model"), (3, "channels")])
@pytest.mark.parametrize("route", ["samples", "observables"])
def test_gradients_by_inputs_agree_with_cirq(n_qubits: int, noise: str, route: str) -> None:
    """The samples' circuits re-upload inputs, alone and at several places, and the products of the encoding are noisy."""
    case = Case(n_qubits, n_qubits, noise, route, batch=3)
    slopes, by_input = case.engine.backward(case.weights, case.inputs, case.cotangents, inputs=True)
    np.testing.assert_allclose(by_input, central_differences(case), atol=GRADIENT_TOLERANCE)
    np.testing.assert_array_equal(slopes, case.engine.gradient(case.weights, case.inputs, case.cotangents))
    assert case.engine.backward(case.weights, case.inputs, case.cotangents)[1] is None


def local_encoding(n_qubits: int) -> cirq.Circuit:
    """H, RZ, RY of the inputs with damping between: a product of mixed states, one of its qubits with a fixed rotation only."""
    x = sympy.symbols("x0:2")
    circuit = cirq.Circuit(cirq.H.on_each(*LINE[:n_qubits]), cirq.S(LINE[1]), cirq.rx(0.4)(LINE[n_qubits - 1]))
    for index, qubit in enumerate(LINE[: n_qubits - 1]):
        circuit.append([cirq.amplitude_damp(0.2)(qubit), cirq.rz(x[index % 2] * (1 + index))(qubit), cirq.phase_damp(0.1)(qubit)])
        circuit.append([cirq.T(qubit), cirq.ry(0.5 * x[(index + 1) % 2] + 0.2)(qubit), cirq.Y(qubit) ** 0.3])
    circuit.append([cirq.ry(sympy.Symbol(f"w{index}"))(LINE[index % n_qubits]) for index in range(4)])
    circuit.append([cirq.CX(LINE[0], LINE[1]), cirq.CZ(LINE[1], LINE[n_qubits - 1])])
    return circuit


@pytest.mark.parametrize("route", ["samples", "observables"])
@pytest.mark.parametrize("spec", [NoiseSpec(), SPEC], ids=["no noise added", "noise behind every gate"])
def test_noisy_gates_in_front_of_inputs_stay_part_of_the_encoding(route: str, spec: NoiseSpec) -> None:
    """So that the circuit has no re-upload, and the route by observables is open."""
    circuit = local_encoding(3)
    strings = ["ZII", "IXY", "YZX"]
    case = Case(3, 0, "channels")
    case.oracle = Oracle(spec.noisy(circuit), 3, ["x0", "x1"], ["w0", "w1", "w2", "w3"])
    case.strings = strings
    case.engine = NoisyEngine.from_circuit(
        circuit, LINE[:3], [pauli_string(string) for string in strings], ["x0", "x1"], noise=spec, readout=case.readout, route=route
    )
    assert len(case.engine.program.doubled().segments) == 1
    np.testing.assert_allclose(case.engine.forward(case.weights, case.inputs), case.exact(case.weights), atol=VALUE_TOLERANCE)
    slopes, by_input = case.engine.backward(case.weights, case.inputs, case.cotangents, inputs=True)
    np.testing.assert_allclose(by_input, central_differences(case), atol=GRADIENT_TOLERANCE)
    ends = [[np.sum(case.cotangents * case.exact(case.weights + s)) for s in (shift, -shift)] for shift in 1e-3 * np.eye(4)]
    np.testing.assert_allclose(slopes, [(above - below) / 2e-3 for above, below in ends], atol=GRADIENT_TOLERANCE)


@pytest.mark.parametrize("route", ["samples", "observables"])
def test_amplitudes_of_a_noisy_circuit(route: str) -> None:
    generator = np.random.default_rng(4)
    circuit = random_circuit(2, generator, channels=True, reupload=False)
    circuit = cirq.Circuit(op for op in circuit.all_operations() if not cirq.parameter_names(op) & {"x0", "x1"})
    weights = generator.uniform(-3, 3, 4)
    amplitudes = generator.normal(size=(3, 4))
    amplitudes /= np.linalg.norm(amplitudes, axis=1, keepdims=True)
    names = sorted(cirq.parameter_names(circuit))
    engine = NoisyEngine.from_circuit(
        circuit, LINE[:2], [pauli_string("ZX"), pauli_string("YI")], weight_symbols=names, noise=SPEC, route=route, amplitudes=True
    )
    numbers = dict(zip(names, weights, strict=False))
    simulator, noisy = cirq.DensityMatrixSimulator(dtype=np.complex128), SPEC.noisy(circuit)
    operators = [np.kron(PAULI["Z"], PAULI["X"]), np.kron(PAULI["Y"], PAULI["I"])]

    def exact(density: np.ndarray) -> np.ndarray:
        final = simulator.simulate(noisy, numbers, qubit_order=LINE[:2], initial_state=density).final_density_matrix
        return np.array([np.trace(final @ operator).real for operator in operators])

    given = weights[: len(names)]
    np.testing.assert_allclose(engine.forward(given, amplitudes), [exact(np.outer(row, row) + 0j) for row in amplitudes], atol=1e-5)
    cotangents = generator.normal(size=(3, 2))
    _, by_input = engine.backward(given, amplitudes, cotangents, inputs=True)
    # The value is quadratic in the amplitudes: its slope along e_j is that of the polar form, from three states.
    assert by_input is not None
    for row, cotangent, slopes in zip(amplitudes, cotangents, by_input, strict=True):
        for number in range(4):
            unit = np.eye(4)[number]
            both = (row + unit) / np.linalg.norm(row + unit)
            values = [exact(np.outer(state, state) + 0j) for state in (both, row, unit)]
            polar = values[0] * ((row + unit) @ (row + unit)) - values[1] - values[2]
            assert slopes[number] == pytest.approx(cotangent @ polar, abs=GRADIENT_TOLERANCE)
    with pytest.raises(QumosError, match="length 1"):
        engine.forward(given, 2 * amplitudes)
    with pytest.raises(QumosError, match=r"amplitudes of shape \[batch, 4\]"):
        engine.forward(given, amplitudes[:, :2])
    with pytest.raises(QumosError, match="the batch is empty"):
        engine.forward(given, amplitudes[:0])
    with pytest.raises(QumosError, match="input symbols cannot take amplitudes"):
        small_engine(amplitudes=True)


def test_controlled_rotations_with_noise() -> None:
    w, x = sympy.symbols("w0:4"), sympy.symbols("x0:2")
    circuit = cirq.Circuit(cirq.ry(x[0])(LINE[0]), cirq.H(LINE[1]), cirq.rx(w[0]).controlled()(LINE[0], LINE[1]))
    circuit.append([cirq.ry(w[1])(LINE[0]).controlled_by(LINE[1], control_values=[0]), cirq.CZ(*LINE[:2]) ** w[2]])
    circuit.append([cirq.rz(x[1]).controlled()(LINE[1], LINE[0]), cirq.rx(w[3])(LINE[0])])
    case = Case(2, 0, "channels")
    case.oracle = Oracle(SPEC.noisy(circuit), 2, ["x0", "x1"], ["w0", "w1", "w2", "w3"])
    case.engine = NoisyEngine.from_circuit(
        circuit, LINE[:2], [pauli_string(string) for string in case.strings], ["x0", "x1"], noise=SPEC, readout=case.readout
    )
    np.testing.assert_allclose(case.engine.forward(case.weights, case.inputs), case.exact(case.weights), atol=VALUE_TOLERANCE)
    slopes, by_input = case.engine.backward(case.weights, case.inputs, case.cotangents, inputs=True)
    np.testing.assert_allclose(by_input, central_differences(case), atol=GRADIENT_TOLERANCE)
    ends = [[np.sum(case.cotangents * case.exact(case.weights + s)) for s in (shift, -shift)] for shift in 1e-3 * np.eye(4)]
    np.testing.assert_allclose(slopes, [(above - below) / 2e-3 for above, below in ends], atol=GRADIENT_TOLERANCE)


@pytest.mark.parametrize("basis", [None, "XYZ"])
def test_probabilities_are_those_of_confused_outcomes(basis: str | None) -> None:
    case = Case(3, 5, "spec")
    densities = case.oracle.densities(case.weights, case.inputs)
    turn = functools.reduce(np.kron, [TURN[letter] for letter in basis or "ZZZ"])
    exact = np.einsum("ij,bjk,ik->bi", turn, densities, turn.conj()).real
    flip = np.array([[0.97, 0.03], [0.08, 0.92]])
    expected = exact @ functools.reduce(np.kron, [flip] * 3)
    found = case.engine.probabilities(case.weights, case.inputs, basis)
    np.testing.assert_allclose(found, expected, atol=VALUE_TOLERANCE)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=VALUE_TOLERANCE)


def test_dense_kraus_algebra() -> None:
    """ρ -> Σ KρK† by plain matrix products, with a random channel on two qubits in the wrong order between two gates."""
    generator = np.random.default_rng(0)
    isometry, _ = np.linalg.qr(generator.normal(size=(12, 4)) + 1j * generator.normal(size=(12, 4)))
    kraus = isometry.reshape(3, 4, 4)
    a, b = LINE[:2]
    circuit = cirq.Circuit(cirq.ry(sympy.Symbol("w"))(a), cirq.KrausChannel(list(kraus))(b, a), cirq.CX(a, b), cirq.amplitude_damp(0.3)(b))
    turn = np.kron(cirq.unitary(cirq.ry(0.7)), PAULI["I"])
    rho = turn @ np.diag([1, 0, 0, 0]).astype(complex) @ turn.conj().T
    swap = np.eye(4)[[0, 2, 1, 3]]
    rho = sum(swap @ k @ swap @ rho @ (swap @ k @ swap).conj().T for k in kraus)
    cnot = np.eye(4)[[0, 1, 3, 2]]
    rho = cnot @ rho @ cnot
    damping = [np.diag([1, math.sqrt(0.7)]), np.array([[0, math.sqrt(0.3)], [0, 0]])]
    rho = sum(np.kron(PAULI["I"], k) @ rho @ np.kron(PAULI["I"], k).conj().T for k in damping)
    strings = ["ZI", "IX", "YY", "XZ"]
    engine = NoisyEngine.from_circuit(circuit, [a, b], [pauli_string(string) for string in strings], noise=None)
    expected = [np.trace(rho @ functools.reduce(np.kron, [PAULI[letter] for letter in string])).real for string in strings]
    np.testing.assert_allclose(engine.forward(np.array([0.7]), np.zeros((1, 0)))[0], expected, atol=VALUE_TOLERANCE)


def test_superoperator_acts_on_rows_and_columns() -> None:
    kraus = cirq.kraus(cirq.generalized_amplitude_damp(0.3, 0.4))
    rho = np.array([[0.7, 0.1 - 0.2j], [0.1 + 0.2j, 0.3]])
    np.testing.assert_allclose(superoperator(kraus) @ rho.ravel(), sum(k @ rho @ k.conj().T for k in kraus).ravel(), atol=1e-12)


def hardware_efficient(n_qubits: int) -> cirq.Circuit:
    qubits = LINE[:n_qubits]
    return cirq.Circuit(
        [cirq.ry(sympy.Symbol(f"x{index}"))(qubit) for index, qubit in enumerate(qubits)],
        [cirq.ry(sympy.Symbol(f"w{index}"))(qubit) for index, qubit in enumerate(qubits)],
        [cirq.CZ(*pair) for pair in zip(qubits, qubits[1:], strict=False)],
        [cirq.rx(sympy.Symbol(f"w{index + n_qubits}"))(qubit) for index, qubit in enumerate(qubits)],
    )


def small_engine(**settings: object) -> NoisyEngine:
    observables = [1.0 * cirq.Z(LINE[0]), cirq.X(LINE[0]) * cirq.Y(LINE[1]) + 0.5 * cirq.Z(LINE[1]) - 0.25]
    arguments = {"noise": NoiseSpec(0.02, 0.05, readout=ReadoutError(0.02, 0.05))} | settings
    return NoisyEngine.from_circuit(hardware_efficient(2), LINE[:2], observables, ["x0", "x1"], **arguments)  # type: ignore[arg-type]


def random_numbers(batch: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)
    return generator.uniform(-3, 3, 4), generator.uniform(-3, 3, (batch, 2)), generator.normal(size=(batch, 2))


def test_without_noise_it_is_the_exact_engine() -> None:
    weights, inputs, cotangents = random_numbers()
    noisy = small_engine(noise=None)
    exact = CircuitEngine(compile_circuit(hardware_efficient(2), LINE[:2], ["x0", "x1"]), noisy.observables)
    values, tape = exact.forward(weights, exact.encode(inputs))
    np.testing.assert_allclose(noisy.forward(weights, inputs), values, atol=VALUE_TOLERANCE)
    np.testing.assert_allclose(noisy.gradient(weights, inputs, cotangents), exact.backward(tape, cotangents)[0], atol=GRADIENT_TOLERANCE)


def test_complete_depolarisation_leaves_nothing() -> None:
    engine = small_engine(noise=NoiseSpec(one_qubit=0.75))
    weights, inputs, cotangents = random_numbers()
    np.testing.assert_allclose(engine.forward(weights, inputs), np.tile([0, -0.25], (9, 1)), atol=VALUE_TOLERANCE)
    np.testing.assert_allclose(engine.gradient(weights, inputs, cotangents), 0, atol=VALUE_TOLERANCE)


@pytest.mark.parametrize("route", ["samples", "observables"])
def test_chunks_change_nothing(route: str) -> None:
    weights, inputs, cotangents = random_numbers(batch=37)
    whole, chunked = small_engine(route=route), small_engine(route=route, memory_limit=7000)
    np.testing.assert_allclose(chunked.forward(weights, inputs), whole.forward(weights, inputs), atol=1e-6)
    np.testing.assert_allclose(chunked.probabilities(weights, inputs), whole.probabilities(weights, inputs), atol=1e-6)
    slopes = whole.gradient(weights, inputs, cotangents)
    np.testing.assert_allclose(chunked.gradient(weights, inputs, cotangents), slopes, atol=GRADIENT_TOLERANCE)
    by_input = [engine.backward(weights, inputs, cotangents, inputs=True)[1] for engine in (chunked, whole)]
    np.testing.assert_allclose(*by_input, atol=1e-5)


def test_memory_stays_under_the_limit_whatever_the_batch() -> None:
    """As far as NumPy's arrays go, which hold all states; the batch without a limit would take 32 MiB an array."""
    limit = 2**22
    observables, names = [pauli_string("XYZX"), pauli_string("ZIII")], [f"x{index}" for index in range(4)]
    engine = NoisyEngine.from_circuit(hardware_efficient(4), LINE, observables, names, noise=SPEC, memory_limit=limit)
    weights, inputs = np.zeros(8), np.ones((2**14, 4))
    tracemalloc.start()
    try:
        size = engine.probabilities(weights, inputs, "XYZX").nbytes
        engine.route = "samples"
        engine.backward(weights, inputs, np.ones((len(inputs), 2)), inputs=True)
        engine.route = "observables"
        engine.backward(weights, inputs, np.ones((len(inputs), 2)), inputs=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Beside the states there are the answer, its parts and temporaries.
    assert peak < limit + 5 * size


def test_engines_survive_pickling() -> None:
    weights, inputs, _ = random_numbers()
    engine = small_engine()
    values = engine.forward(weights, inputs)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(engine)).forward(weights, inputs), values)


def test_a_noise_model_sees_idle_qubits_and_readout_errors_differ_by_qubit() -> None:
    circuit = cirq.Circuit(cirq.X(LINE[0]))
    model = cirq.ConstantQubitNoiseModel(cirq.bit_flip(0.1))
    errors = [ReadoutError(0.0, 0.2), ReadoutError(0.3, 0.0)]
    observables = [1.0 * cirq.Z(LINE[0]), 1.0 * cirq.Z(LINE[1])]
    engine = NoisyEngine.from_circuit(circuit, LINE[:2], observables, noise=model, readout=errors)
    one, other = 0.9 * 0.2 + 0.1, 0.9 * 0.7
    np.testing.assert_allclose(engine.forward(np.zeros(0), np.zeros((1, 0))), [[2 * one - 1, 2 * other - 1]], atol=VALUE_TOLERANCE)


# Shots


def test_strings_that_agree_share_their_shots() -> None:
    sums = [1.0 * cirq.Z(LINE[0]), cirq.X(LINE[1]) + cirq.X(LINE[2]), cirq.Y(LINE[1]) * cirq.Z(LINE[0]) - 2.0, 0.0 * cirq.Z(LINE[0])]
    ways = measurements([Observable.from_cirq(item, LINE[:3]) for item in sums], 3)
    assert [way.basis for way in ways] == ["ZXX", "ZYZ"]
    assert [way.basis for way in measurements([Observable.from_cirq(0.0 * cirq.Z(LINE[0]), LINE[:2])], 2)] == ["ZZ"]


def test_outcomes_of_a_noisy_circuit_follow_their_probabilities() -> None:
    weights, inputs, _ = random_numbers(batch=3)
    exact = small_engine().probabilities(weights, inputs)
    counts = sampled_counts(exact, 20000, np.random.default_rng(0))
    for row, expected in zip(counts, exact, strict=True):
        assert chisquare(row, expected / expected.sum() * 20000).pvalue > 1e-3
    np.testing.assert_array_equal(sampled_counts(exact, 20000, np.random.default_rng(0)), counts)
    assert not np.array_equal(sampled_counts(exact, 20000, np.random.default_rng(1)), counts)


@pytest.mark.parametrize("kind", ["noisy", "exact"])
def test_sampled_expectations_are_unbiased_with_the_predicted_spread(kind: str) -> None:
    noisy = small_engine(noise=NoiseSpec(0.02, 0.05, readout=ReadoutError(0.02, 0.05)) if kind == "noisy" else None)
    pure = CircuitEngine(compile_circuit(hardware_efficient(2), LINE[:2], ["x0", "x1"]), noisy.observables)
    engine = noisy if kind == "noisy" else pure
    weights, inputs, _ = random_numbers(batch=1)
    shots, rows = 50, 4000
    values = sampled_expectations(engine, weights, np.repeat(inputs, rows, axis=0), shots, np.random.default_rng(3))
    exact = noisy.forward(weights, inputs)[0]
    p = noisy.probabilities(weights, inputs, "ZZ")[0]
    # Z0 and ½·Z1 - ¼ share the shots in ZZ; X0·Y1 is measured apart.
    half = np.array([0.5, -0.5, 0.5, -0.5]) - 0.25
    product = exact[1] - p @ half
    variance = np.array([1 - exact[0] ** 2, p @ half**2 - (p @ half) ** 2 + 1 - product**2]) / shots
    np.testing.assert_allclose(values.mean(axis=0), exact, atol=5 * np.sqrt(variance.max() / rows))
    np.testing.assert_allclose(values.std(axis=0), np.sqrt(variance), rtol=0.06)
    again = sampled_expectations(engine, weights, np.repeat(inputs, rows, axis=0), shots, np.random.default_rng(3))
    np.testing.assert_array_equal(values, again)


# Bad input


class Leaky(cirq.Gate):
    """A channel whose Kraus operators lose half of the norm."""

    def _num_qubits_(self) -> int:
        return 1

    def _kraus_(self) -> tuple[np.ndarray, ...]:
        return (np.eye(2) / 2,)


class Stretched(cirq.Gate):
    """A "unitary" that is none."""

    def _num_qubits_(self) -> int:
        return 1

    def _unitary_(self) -> np.ndarray:
        return np.diag([1.0, 2.0])


class Opaque(cirq.Gate):
    """A gate about which Cirq knows nothing."""

    def _num_qubits_(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Leaky()(LINE[0]), "channel .*does not preserve the trace"),
        (Stretched()(LINE[0]), "gate .*is not unitary"),
        (Opaque()(LINE[0]), "gate .*neither unitary nor a channel"),
        (cirq.measure(LINE[0]), "gate .*measurement"),
        (cirq.depolarize(0.1, n_qubits=3)(*LINE[:3]), "channel .*acts on 3 qubits"),
        (cirq.X(LINE[3]), r"qubits: q\(3\)"),
        (cirq.rx(sympy.Symbol("v"))(LINE[0]), "'v' is neither an input nor a weight"),
    ],
    ids=["trace", "unitary", "opaque", "measurement", "wide channel", "qubit", "symbol"],
)
def test_circuits_that_cannot_be_compiled(operation: cirq.Operation, message: str) -> None:
    with pytest.raises(QumosError, match=message):
        compile_noisy(cirq.Circuit(operation), LINE[:3], [], [])


def test_noise_that_cannot_be_added() -> None:
    with pytest.raises(QumosError, match=r"two_qubit is 1\.5"):
        NoiseSpec(two_qubit=1.5)
    with pytest.raises(QumosError, match="zero_as_one is nan"):
        ReadoutError(math.nan)
    with pytest.raises(QumosError, match=r"noise: gate .*acts on 3 qubits"):
        compile_noisy(cirq.Circuit(cirq.CCX(*LINE[:3])), LINE[:3], noise=SPEC)
    with pytest.raises(QumosError, match=r"noise: .*got float"):
        compile_noisy(cirq.Circuit(cirq.X(LINE[0])), LINE[:1], noise=0.1)  # type: ignore[arg-type]
    with pytest.raises(QumosError, match="readout: 2 errors"):
        compile_noisy(cirq.Circuit(cirq.X(LINE[0])), LINE[:2], readout=[ReadoutError()])


def test_registers_that_are_too_wide_say_what_they_need() -> None:
    qubits = cirq.LineQubit.range(14)
    with pytest.raises(QumosError, match=r"qubits: a noisy register of 14 needs 22,528 MiB .*memory_limit is 1,024 MiB"):
        NoisyEngine.from_circuit(cirq.Circuit(cirq.X.on_each(*qubits)), qubits, [1.0 * cirq.Z(qubits[0])], noise=SPEC)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite(bad: float) -> None:
    engine = small_engine()
    weights, inputs, cotangents = random_numbers()
    for name, array in (("weights", weights), ("inputs", inputs), ("cotangents", cotangents)):
        broken = array.copy()
        broken.flat[1] = bad
        given = {"weights": weights, "inputs": inputs, "cotangents": cotangents, name: broken}
        with pytest.raises(QumosError, match=f"{name}: .*not finite"):
            engine.gradient(**given)


def test_arguments_that_do_not_fit() -> None:
    engine = small_engine()
    weights, inputs, cotangents = random_numbers()
    for message, call in (
        ("inputs: the batch is empty", lambda: engine.forward(weights, inputs[:0])),
        (r"inputs: shape \[batch, 2\]", lambda: engine.forward(weights, inputs[:, :1])),
        (r"weights: shape \[4\]", lambda: engine.probabilities(weights[:3], inputs)),
        (r"cotangents: shape \[9, 2\]", lambda: engine.gradient(weights, inputs, cotangents[:4])),
        ("basis: one of X, Y, Z", lambda: engine.probabilities(weights, inputs, "ZI")),
        ("shots is 0", lambda: sampled_expectations(engine, weights, inputs, 0, np.random.default_rng(0))),
        ("observables: at least one", lambda: NoisyEngine(engine.program, [])),
        ("threads is 0", lambda: small_engine(threads=0)),
        ("observables: one is for 3 qubits", lambda: NoisyEngine(engine.program, [Observable.from_cirq(cirq.Z(LINE[0]), LINE[:3])])),
    ):
        with pytest.raises(QumosError, match=message):
            call()
    reuploaded = cirq.Circuit(hardware_efficient(2), cirq.rx(sympy.Symbol("x0"))(LINE[0]))
    with pytest.raises(QumosError, match="route: "):
        NoisyEngine.from_circuit(reuploaded, LINE[:2], [1.0 * cirq.Z(LINE[0])], ["x0", "x1"], route="observables")


def test_symbols_that_occur_nowhere_and_routes_that_are_unknown() -> None:
    for message, settings in (
        ("symbol 'v' occurs nowhere", {"input_symbols": ["x0", "v"]}),
        ("symbol 'v' occurs nowhere", {"input_symbols": ["x0", "x1"], "weight_symbols": ["v"]}),
        ("unknown route of a noisy circuit 'states'; did you mean samples", {"input_symbols": ["x0", "x1"], "route": "states"}),
    ):
        with pytest.raises(QumosError, match=message):
            NoisyEngine.from_circuit(hardware_efficient(2), LINE[:2], [1.0 * cirq.Z(LINE[0])], **settings)  # type: ignore[arg-type]
