"""Gate cuts: local circuits, reconstruction and its variance, what providers see, and what a cut is worth."""

from __future__ import annotations

import math
from itertools import product

import cirq
import numpy as np
import pytest
from cut_variance import predicted_variance
from scipy import stats

from qumos_env.deployment.qasm import to_openqasm3
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import ry_cz_ry
from qumos_env.design.circuits import bind, build_fragment, input_symbol, weight_symbol
from qumos_env.design.gate_cuts import LABELS, Variant, coefficients, cut_angles, cut_parts, variant_counts
from qumos_env.errors import QumosError
from qumos_env.evaluation.workload import Workload
from qumos_env.model.cutting.contraction import contract
from qumos_env.model.cutting.estimator import CutEngine
from qumos_env.model.qnn import QNN
from qumos_env.model.training import Parameters
from qumos_env.scenario import load_scenario

# Partition, providers, and where the cuts are.
CASES: dict[str, tuple[tuple[int, ...], tuple[str, ...], list[tuple[int, int]]]] = {
    "one cut": ((0, 0, 1, 1), ("a", "b"), [(1, 2)]),
    "twice between the same qubits": ((0, 0, 1, 1), ("a", "b"), [(1, 2), (1, 2)]),
    "three cuts on shared qubits": ((0, 1, 0, 1), ("a", "b"), [(0, 1), (0, 3), (2, 3)]),
    "a ring of three parts": ((0, 0, 1, 1, 2), ("a", "b", "c"), [(1, 2), (3, 4), (0, 4)]),
    "one provider of two parts": ((0, 1, 2), ("a", "b", "a"), [(0, 1), (1, 2)]),
    "an untouched part": ((0, 1, 1, 2), ("a", "b", "c"), [(0, 1)]),
    "wide enough for qsim": ((0,) * 6 + (1,), ("a", "b"), [(5, 6)]),
}


def random_design(case: str, seed: int = 0, layers: int = 3) -> Design:
    """Random gates, re-uploads among them, in every part, and the cuts of ``case`` in between."""
    partition, providers, cuts = CASES[case]
    generator = np.random.default_rng(seed)
    pairs = [(a, b) for a, b in product(range(len(partition)), repeat=2) if a < b and partition[a] == partition[b]]
    gates: list[Gate] = []
    for layer in range(layers):
        gates += [Gate(str(generator.choice(["rx", "ry", "rz", "h", "reupload"])), (q,)) for q in range(len(partition))]
        gates += [Gate(str(generator.choice(["cz", "cx", "rzz"])), pair) for pair in pairs if generator.random() < 0.6]
        gates += [Gate("rzz", pair) for pair in cuts[layer : layer + 1]]
        gates += [Gate(str(name), (q,)) for q in range(len(partition)) for name in generator.permutation(["rx", "ry"])]
    return Design(partition, providers, tuple(gates))


def drawn(design: Design, models: int, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng([seed, 1])
    return generator.uniform(-np.pi, np.pi, (models, design.n_trainable)), generator.uniform(0, np.pi, (models, rows, design.n_qubits))


def resolved(circuit: cirq.Circuit, angles: np.ndarray, inputs: np.ndarray) -> cirq.Circuit:
    values = {weight_symbol(i): angle for i, angle in enumerate(angles)} | {input_symbol(q): x for q, x in enumerate(inputs)}
    return cirq.resolve_parameters(circuit, {name: value for name, value in values.items() if name in cirq.parameter_names(circuit)})


def uncut(design: Design, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """⟨Z⟩ ``[n_qubits]`` of the whole circuit by Cirq's simulator."""
    line = cirq.LineQubit.range(design.n_qubits)
    circuit = resolved(build_fragment(design, range(design.n_qubits), design.placed_gates, "ry").circuit, angles, inputs)
    simulator = cirq.Simulator(dtype=np.complex128)
    return np.real(simulator.simulate_expectation_values(circuit, [cirq.Z(qubit) for qubit in line], qubit_order=line))


# The decomposition


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.231, math.pi / 2, 2.5, math.pi])
def test_coefficients_make_the_gate(angle: float) -> None:
    """As maps on every matrix, with S, S† and M written out."""
    z, s, zero, one = np.diag([1, -1]), np.diag([1, 1j]), np.diag([1, 0]), np.diag([0, 1])
    kraus = {"I": [(1, np.eye(2))], "Z": [(1, z)], "S": [(1, s)], "Sdg": [(1, s.conj())], "M": [(1, zero), (-1, one)]}
    table = coefficients(np.array(angle))
    gate = np.diag(np.exp(-0.5j * angle * np.array([1, -1, -1, 1])))
    matrix = np.random.default_rng(0).normal(size=(4, 4, 2)) @ [1, 1j]
    total = np.zeros((4, 4), complex)
    for (i, left), (j, right) in product(enumerate(LABELS), repeat=2):
        for (sign, a), (other, b) in product(kraus[left], kraus[right]):
            total += table[i, j] * sign * other * np.kron(a, b) @ matrix @ np.kron(a, b).conj().T
    np.testing.assert_allclose(total, gate @ matrix @ gate.conj().T, atol=1e-12)
    assert np.abs(table).sum() == pytest.approx(1 + 2 * abs(math.sin(angle)))


# Reconstruction


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_cut_and_uncut_agree(case: str, seed: int) -> None:
    design = random_design(case, seed)
    assert len(design.cut_gates) == len(CASES[case][2])
    angles, inputs = drawn(design, models=2, rows=3, seed=seed)
    engine = CutEngine(design, "ry")
    found = engine.reconstruct(angles, engine.run(angles, inputs))
    expected = np.array([[uncut(design, *pair) for pair in zip([a] * 3, x, strict=True)] for a, x in zip(angles, inputs, strict=True)])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if len(set(design.assignment)) == 2:
        zero = angles.copy()
        zero[:, cut_angles(design)] = 0
        assert np.abs(engine.reconstruct(zero, engine.run(angles, inputs)) - expected).max() > 0.01  # the cut matters


def outcome_means(variant: Variant, n_part: int, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """``[1 + n_part]`` of a variant as it runs on hardware: every qubit and ancilla measured."""
    circuit = resolved(variant.circuit, angles, inputs)
    final = cirq.Simulator(dtype=np.complex128).simulate(circuit, qubit_order=variant.qubits).final_state_vector
    probabilities = np.abs(final).reshape((2,) * len(variant.qubits)) ** 2
    z = np.array([1.0, -1.0])
    sign = probabilities
    for ancilla in range(n_part, len(variant.qubits)):
        sign = sign * z.reshape([2 if axis == ancilla else 1 for axis in range(sign.ndim)])
    marginal = [sign.sum()]
    for qubit in range(n_part):
        marginal.append((sign * z.reshape([2 if axis == qubit else 1 for axis in range(sign.ndim)])).sum())
    return np.array(marginal)


@pytest.mark.parametrize("case", ["one cut", "twice between the same qubits"])
def test_variants_as_circuits_give_the_results_used(case: str) -> None:
    """The circuits that providers get, M as an ancilla, against the shortcut that simulates them."""
    design = random_design(case, 3)
    angles, inputs = drawn(design, models=1, rows=1)
    results = CutEngine(design, "ry").run(angles, inputs)
    for part, result in zip(cut_parts(design, "ry"), results, strict=True):
        assert [variant.labels for variant in part.variants] == list(product(LABELS, repeat=len(part.cuts)))
        flat = result[0, 0].reshape(len(part.variants), -1)
        for variant, expected in zip(part.variants, flat, strict=True):
            np.testing.assert_allclose(outcome_means(variant, len(part.qubits), angles[0], inputs[0, 0]), expected, atol=1e-5)


def test_variants_can_be_written_as_openqasm() -> None:
    design = random_design("one cut")
    angles, _ = drawn(design, models=1, rows=1)
    weights = {weight_symbol(i): angle for i, angle in enumerate(angles[0])}
    for part in cut_parts(design, "ry"):
        for variant in part.variants:
            text = to_openqasm3(bind(variant.circuit, weights), list(variant.qubits))
            assert (f"q[{len(part.qubits)}]" in text) == ("M" in variant.labels)
            assert f"{weight_symbol(part.angles[0])}" not in text


def test_agreement_with_qiskits_cutting_addon() -> None:
    """An independent implementation of the same cut: coefficients, subexperiments and reconstruction."""
    from qiskit import QuantumCircuit
    from qiskit.circuit.library import RZZGate
    from qiskit.quantum_info import PauliList
    from qiskit_addon_cutting import generate_cutting_experiments, partition_problem, reconstruct_expectation_values
    from qiskit_addon_cutting.qpd import QPDBasis
    from qiskit_addon_cutting.utils.simulation import ExactSampler

    design = Design(
        (0, 0, 1, 1),
        ("a", "b"),
        tuple(Gate(*gate) for gate in [("ry", (1,)), ("cx", (0, 1)), ("cz", (2, 3)), ("rzz", (1, 2)), ("rx", (1,)), ("ry", (2,))]),
    )
    angles, inputs = drawn(design, models=1, rows=1, seed=5)
    circuit, values = QuantumCircuit(4), iter(angles[0])
    for qubit in range(4):
        circuit.ry(inputs[0, 0, qubit], qubit)
    for gate in design.gates:
        getattr(circuit, gate.name)(*([next(values)] if gate.trainable else []), *gate.qubits)
    theta = angles[0, cut_angles(design)[0]]
    theirs = sorted(QPDBasis.from_instruction(RZZGate(theta)).coeffs)
    ours = coefficients(np.array(theta))
    np.testing.assert_allclose(theirs, sorted(ours[ours != 0]), atol=1e-12)

    problem = partition_problem(circuit, "AABB", observables=PauliList(["IIIZ", "IIZI", "IZII", "ZIII"]))
    experiments, weights = generate_cutting_experiments(problem.subcircuits, problem.subobservables, num_samples=np.inf)
    results = {label: ExactSampler().run(circuits).result() for label, circuits in experiments.items()}
    expected = reconstruct_expectation_values(results, weights, problem.subobservables)
    engine = CutEngine(design, "ry")
    np.testing.assert_allclose(engine.reconstruct(angles, engine.run(angles, inputs))[0, 0], expected, atol=1e-5)


# Shots


@pytest.mark.parametrize(("case", "shots"), [("one cut", 40), ("twice between the same qubits", 40), ("a ring of three parts", 100)])
def test_estimates_from_shots_have_the_predicted_mean_and_variance(case: str, shots: int) -> None:
    """Unbiased, and as spread as predicted, to within the error of 6,000 repeats."""
    repeats = 6000
    design = random_design(case, 1)
    angles, inputs = drawn(design, models=1, rows=1)
    engine = CutEngine(design, "ry")
    exact = engine.run(angles, inputs)
    predicted = predicted_variance(engine, angles, exact, shots)[0, 0]
    estimates = engine.reconstruct(angles, engine.run(angles, np.repeat(inputs, repeats, axis=1), shots, np.random.default_rng(7)))[0]
    errors = (estimates.mean(axis=0) - uncut(design, angles[0], inputs[0, 0])) / np.sqrt(predicted / repeats)
    assert np.abs(errors).max() < 4
    np.testing.assert_allclose(estimates.var(axis=0), predicted, rtol=0.1)


def test_standardised_errors_of_many_rows_follow_chi_square() -> None:
    """Over rows, the squared errors in units of the prediction sum to a chi-square where means are nearly normal."""
    design = random_design("one cut", 2)
    angles, inputs = drawn(design, models=1, rows=400)
    engine = CutEngine(design, "ry")
    exact = engine.run(angles, inputs)
    mean, variance = engine.reconstruct(angles, exact), predicted_variance(engine, angles, exact, 2000)
    found = engine.reconstruct(angles, engine.run(angles, inputs, 2000, np.random.default_rng(8)))
    squares = ((found - mean) ** 2 / variance)[0].sum(axis=0)
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], 400)
    assert np.all((squares > low) & (squares < high))


def test_same_seed_same_estimate() -> None:
    design = random_design("one cut")
    angles, inputs = drawn(design, models=2, rows=3)
    engine = CutEngine(design, "ry")
    first, again, other = (engine.run(angles, inputs, 50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


# What a provider sees


def test_no_provider_sees_a_cut_angle() -> None:
    """Circuits, their number, shots and outcomes are the same for every cut angle; only the reconstruction differs."""
    design = random_design("twice between the same qubits", 5)
    angles, inputs = drawn(design, models=1, rows=2)
    other = angles.copy()
    other[:, cut_angles(design)] = [0.0, 1.231]
    engine = CutEngine(design, "ry")
    secret = {weight_symbol(number) for number in cut_angles(design)}
    seen = []
    for values in (angles, other):
        weights = {weight_symbol(i): angle for i, angle in enumerate(values[0])}
        circuits = [bind(variant.circuit, weights) for part in cut_parts(design, "ry") for variant in part.variants]
        seen.append((circuits, engine.run(values, inputs, 100, np.random.default_rng(3))))
    assert len(seen[0][0]) == sum(variant_counts(engine.design)) == 2 * 5**2
    assert seen[0][0] == seen[1][0]
    for part in engine.parts:
        assert all(not secret & cirq.parameter_names(variant.circuit) for variant in part.variants)
        np.testing.assert_array_equal(seen[0][1][part.index], seen[1][1][part.index])
        np.testing.assert_array_equal(*(engine.variant_readout([part.index], tried, inputs) for tried in (angles, other)))
    assert np.abs(engine.reconstruct(angles, seen[0][1]) - engine.reconstruct(other, seen[1][1])).max() > 0.05


def test_a_thief_reads_its_variants_and_nothing_else() -> None:
    """Every model on its own angles; other parts, other inputs and the cut leave the readout alone."""
    design = random_design("one cut", 6)
    angles, inputs = drawn(design, models=3, rows=4)
    features = CutEngine(design, "ry").variant_readout([1], angles, inputs)
    assert features.shape == (3, 4, 5 * 2 + 1)
    held = design.parts[1]
    numbers = [i for i, placed in enumerate(p for p in design.placed_gates if p.gate.trainable) if placed in held.gates]
    changed, moved = angles + 1.0, inputs + 1.0
    changed[:, numbers], moved[:, :, list(held.qubits)] = angles[:, numbers], inputs[:, :, list(held.qubits)]
    np.testing.assert_allclose(CutEngine(design, "ry").variant_readout([1], changed, moved), features, atol=1e-6)
    part = cut_parts(design, "ry")[1]
    for model, row in ((0, 0), (2, 3)):
        means = np.array([outcome_means(variant, 2, angles[model], inputs[model, row]) for variant in part.variants])
        np.testing.assert_allclose(features[model, row], [*means[:, 1:].ravel(), means[LABELS.index("M"), 0]], atol=1e-5)
    both = CutEngine(design, "ry").variant_readout([0, 1], angles, inputs)
    np.testing.assert_allclose(both[..., 11:], features, atol=1e-6)


def test_without_a_cut_the_readout_is_that_of_the_part() -> None:
    design = random_design("an untouched part")
    angles, inputs = drawn(design, models=1, rows=2)
    expected = [uncut(design, angles[0], row)[3:] for row in inputs[0]]
    np.testing.assert_allclose(CutEngine(design, "ry").variant_readout([2], angles, inputs)[0], expected, atol=1e-5)


# What a cut is worth


def parity_design(cuts: list[tuple[int, int]]) -> Design:
    """One layer of RY-CZ-RY on each half, ``cuts`` between them turned to another axis, and one layer more."""
    layer = ry_cz_ry((0, 0, 1, 1), ("aurora", "borealis"), 1)
    turn = tuple(Gate("rx", (qubit,)) for qubit in range(4))
    across = tuple(Gate("rzz", pair) for pair in cuts)
    return Design(layer.partition, layer.assignment, (*layer.gates, *turn, *across, *turn, *layer.gates))


def test_parity_across_the_halves_needs_a_cut() -> None:
    """On the scenario's test split, with its training: chance without, nearly all with two cuts, and the cut service says the same."""
    scenario = load_scenario("parity-cut")
    workload = Workload(scenario)
    draws = workload.draws(1000, "test")
    inputs, labels = np.stack([draw.score for draw in draws]), np.stack([draw.score_labels for draw in draws])

    def trained(cuts: list[tuple[int, int]]) -> tuple[Design, QNN, Parameters, float]:
        design = parity_design(cuts)
        scenario.check_design(design)
        model = QNN(design, workload.n_classes, scenario.model, scenario.data.axis)
        parameters = model.train_many(
            np.stack([draw.train for draw in draws]), np.stack([draw.train_labels for draw in draws]), [draw.key for draw in draws]
        )
        return design, model, parameters, float(np.mean(model.probabilities(parameters, inputs).argmax(axis=-1) == labels))

    assert trained([])[3] < 0.56
    design, model, parameters, accuracy = trained([(1, 2), (0, 3)])
    assert accuracy > 0.95
    engine = CutEngine(design, scenario.data.axis)
    readout = engine.reconstruct(parameters.angles, engine.run(parameters.angles, inputs[:, :20]))
    np.testing.assert_allclose(readout, model.stack.readout(parameters.angles, inputs[:, :20]), atol=1e-5)


# Errors


def test_too_many_cuts_are_refused() -> None:
    gates = tuple(Gate("rzz", (0, 1)) if i % 2 else Gate("rx", (0,)) for i in range(8))
    with pytest.raises(QumosError, match="4 gate cuts, at most 3"):
        cut_parts(Design((0, 1), ("a", "b"), gates), "ry")


def test_shots_need_a_generator() -> None:
    design = random_design("one cut")
    angles, inputs = drawn(design, 1, 1)
    with pytest.raises(QumosError, match="a generator"):
        CutEngine(design, "ry").run(angles, inputs, shots=10)
    with pytest.raises(QumosError, match="shots is 0"):
        CutEngine(design, "ry").run(angles, inputs, 0, np.random.default_rng(0))


def test_contraction_is_the_sum_written_out() -> None:
    """Three tables in a row, joined by two cuts with coefficients that are not symmetric."""
    generator = np.random.default_rng(0)
    a, b, c = generator.normal(size=(2, 3, 5)), generator.normal(size=(2, 3, 5, 5, 4)), generator.normal(size=(2, 3, 5))
    first, second = generator.normal(size=(2, 2, 5, 5))
    expected = np.einsum("mri,mij,mrjko,mkl,mrl->mro", a, first, b, second, c)
    np.testing.assert_allclose(contract([(0,), (0, 1), (1,)], [a, b, c], [first, second]), expected)
