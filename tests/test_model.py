"""The distributed QNN: heads, optimiser and training, against finite differences, torch, Cirq and NumPy."""

from __future__ import annotations

import pickle
from dataclasses import replace

import cirq
import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qumos_env.design import Design, Gate
from qumos_env.design.circuits import input_symbol, joint_fragments, part_fragments, weight_symbol
from qumos_env.errors import EvaluationFailure, QumosError
from qumos_env.model.heads import HEADS, make_head, softmax
from qumos_env.model.qnn import QNN
from qumos_env.model.stack import CircuitStack
from qumos_env.model.training import Objective, Parameters, cross_entropy, minimise, one_hot, train_stack
from qumos_env.scenario.sections import ModelSection


def design(*gates: tuple[str, tuple[int, ...]], partition: tuple[int, ...] = (0, 0, 1, 1)) -> Design:
    parts = max(partition) + 1
    return Design(partition, tuple("abcd"[:parts]), tuple(Gate(name, qubits) for name, qubits in gates))


LAYERED = [(name, (q,)) for name in ("ry", "rx") for q in range(4)]
LAYERED += [("cz", (0, 1)), ("cz", (2, 3)), ("reupload", (1,)), ("ry", (0,)), ("ry", (1,)), ("rz", (2,)), ("h", (3,)), ("rzz", (2, 3))]
APART = design(*LAYERED)
CUT = design(*LAYERED, ("rzz", (1, 2)), ("ry", (1,)), ("rx", (2,)))


def toy(rows: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two separable classes in four angles."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    centres = np.array([[0.5, 2.5, 0.7, 2.2], [2.4, 0.6, 2.3, 0.8]])
    return centres[labels] + generator.normal(0, 0.25, (rows, 4)), labels


# Heads


@pytest.mark.parametrize("name", HEADS)
@settings(max_examples=15, deadline=None)
@given(n_qubits=st.integers(1, 6), n_classes=st.integers(2, 5), seed=st.integers(0, 999))
def test_head_gradients(name: str, n_qubits: int, n_classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    head = make_head(name, n_qubits, n_classes)
    parameters = head.initial(generator)
    parameters = parameters + generator.normal(0, 0.3, parameters.shape)
    values = generator.uniform(-1, 1, (7, n_qubits))
    cotangents = generator.normal(size=(7, n_classes))
    assert head.logits(parameters, values).shape == (7, n_classes)

    def loss(parameters: np.ndarray, values: np.ndarray) -> float:
        return float(np.sum(cotangents * head.logits(parameters, values)))

    by_parameter, by_value = head.backward(parameters, values, cotangents)
    step = 1e-6
    found = [(loss(parameters + s, values) - loss(parameters - s, values)) / (2 * step) for s in step * np.eye(len(parameters))]
    np.testing.assert_allclose(by_parameter, found, atol=1e-7)
    for index in np.ndindex(values.shape):
        shift = np.zeros(values.shape)
        shift[index] = step
        found_here = (loss(parameters, values + shift) - loss(parameters, values - shift)) / (2 * step)
        assert by_value[index] == pytest.approx(found_here, abs=1e-7)


def test_scaled_head_adds_qubits_modulo_classes() -> None:
    values = np.array([[1.0, 10.0, 100.0, 1000.0, 10000.0]])
    parameters = np.array([2.0, 0.1, 0.2])
    np.testing.assert_allclose(make_head("scaled", 5, 2).logits(parameters, values), [[2 * 10101 + 0.1, 2 * 1010 + 0.2]])
    np.testing.assert_allclose(make_head("fixed", 5, 2).logits(np.zeros(0), values), [[3 * 10101, 3 * 1010]])


def test_unknown_head() -> None:
    with pytest.raises(QumosError, match="did you mean scaled"):
        make_head("scaledd", 2, 2)


def test_softmax_and_cross_entropy_are_torchs() -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(0, 3, (9, 4)), generator.integers(0, 4, 9)
    tensor = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(tensor, torch.tensor(labels))
    expected.backward()
    losses, slopes = cross_entropy(logits, one_hot(labels, 4))
    assert losses.mean() == pytest.approx(expected.item())
    np.testing.assert_allclose(slopes / 9, tensor.grad, atol=1e-12)
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0, -1e4]])), [[1, 0, 0]])


# Optimiser


@pytest.mark.parametrize("learning_rate", [0.1, 0.01])
def test_adam_is_torchs(learning_rate: float) -> None:
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(5, 5))
    matrix = matrix @ matrix.T + np.eye(5)
    start, target = generator.normal(size=5), generator.normal(size=5)

    def gradient(values: np.ndarray) -> tuple[float, np.ndarray]:
        away = values - target
        return float(away @ matrix @ away / 2), matrix @ away

    found = minimise(gradient, start, 60, learning_rate)
    tensor = torch.tensor(start, requires_grad=True)
    optimiser = torch.optim.Adam([tensor], learning_rate)
    for _ in range(60):
        optimiser.zero_grad()
        away = tensor - torch.tensor(target)
        (away @ torch.tensor(matrix) @ away / 2).backward()
        optimiser.step()
    np.testing.assert_allclose(found, tensor.detach(), atol=1e-10)
    assert not np.shares_memory(found, start)


@pytest.mark.parametrize(("loss", "slope"), [(np.nan, 0.0), (np.inf, 0.0), (0.0, np.nan), (0.0, -np.inf)])
def test_divergence_is_an_evaluation_failure(loss: float, slope: float) -> None:
    calls = 0

    def gradient(values: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal calls
        calls += 1
        return (loss, np.full(2, slope)) if calls == 3 else (1.0, np.ones(2))

    with pytest.raises(EvaluationFailure, match="diverged in step 3"):
        minimise(gradient, np.zeros(2), 10, 0.1)


# The model


def exact_readout(made: Design, angles: np.ndarray, inputs: np.ndarray, axis: str) -> np.ndarray:
    """⟨Z⟩ ``[rows, n_qubits]`` of the whole, uncut register from cirq.Simulator in double precision."""
    line = cirq.LineQubit.range(made.n_qubits)
    circuit = cirq.Circuit()
    for q in line:
        circuit.append([cirq.H(q)] if axis == "rz" else [])
        circuit.append({"rx": cirq.rx, "ry": cirq.ry, "rz": cirq.rz}[axis](sympy.Symbol(f"x{q.x}"))(q))
    remaining = iter(angles)
    for gate in made.gates:
        qubits = [line[q] for q in gate.qubits]
        if gate.name in ("rx", "ry", "rz"):
            circuit.append(getattr(cirq, gate.name)(next(remaining))(*qubits))
        elif gate.name == "rzz":
            circuit.append(cirq.ZZPowGate(exponent=next(remaining) / np.pi)(*qubits))
        elif gate.name == "reupload":
            circuit.append(getattr(cirq, axis)(sympy.Symbol(f"x{gate.qubits[0]}"))(*qubits))
        else:
            circuit.append({"h": cirq.H, "cz": cirq.CZ, "cx": cirq.CX}[gate.name](*qubits))
    rows = []
    for row in inputs:
        numbers = {f"x{i}": value for i, value in enumerate(row)}
        state = cirq.Simulator(dtype=np.complex128).simulate(circuit, numbers, qubit_order=line).final_state_vector
        chance = np.abs(state.reshape((2,) * made.n_qubits)) ** 2
        rows.append([np.sum(np.moveaxis(chance, q, 0)[0]) - np.sum(np.moveaxis(chance, q, 0)[1]) for q in range(made.n_qubits)])
    return np.array(rows)


@pytest.mark.parametrize("axis", ["rx", "ry", "rz"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("made", [APART, CUT], ids=["apart", "cut"])
def test_probabilities_against_cirq_and_numpy(made: Design, head: str, axis: str) -> None:
    model = QNN(made, 2, ModelSection(head=head), axis)
    inputs, _ = toy(5)
    initial = model.initial([1, 2])
    parameters = Parameters(initial.angles, initial.head + 0.1 * np.arange(len(initial.head)))
    z = exact_readout(made, parameters.angles, inputs, axis)
    extra = parameters.head
    if head == "linear":
        logits = z @ extra[:8].reshape(4, 2) + extra[8:]
    else:
        scale, bias = (3.0, np.zeros(2)) if head == "fixed" else (extra[0], extra[1:])
        logits = scale * np.stack([z[:, 0] + z[:, 2], z[:, 1] + z[:, 3]], axis=1) + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.probabilities(parameters, inputs), expected, atol=3e-5)


def test_initial_parameters() -> None:
    scaled = QNN(APART, 2).initial([0, 5])
    np.testing.assert_array_equal(scaled.head, [3, 0, 0])
    assert QNN(APART, 2, ModelSection(head="fixed")).initial([0]).head.shape == (0,)
    linear = [QNN(APART, 2, ModelSection(head="linear")).initial(key).head for key in ([0], [0], [1])]
    np.testing.assert_array_equal(linear[0], linear[1])
    assert not np.array_equal(linear[0], linear[2])


def test_whole_gradient_against_finite_differences() -> None:
    """Head and angles of joined parts together."""
    inputs, labels = toy(12)
    targets = one_hot(labels, 2)
    model = QNN(CUT, 2)
    start = model.initial([3])

    def loss(angles: np.ndarray, head: np.ndarray) -> float:
        z = exact_readout(CUT, angles, inputs, "ry")
        return float(cross_entropy(model.head.logits(head, z), targets)[0].mean())

    objective = Objective(model.stack, model.head, inputs[None], targets[None], len(start.angles))
    ((_, gradient),) = objective(start.joined[None], None)
    slopes = Parameters.split(gradient[0], len(start.angles))
    head_slope, angle_slope = slopes.head, slopes.angles
    step = 1e-4
    shifts = step * np.eye(len(start.angles))
    found = [(loss(start.angles + s, start.head) - loss(start.angles - s, start.head)) / (2 * step) for s in shifts]
    np.testing.assert_allclose(angle_slope, found, atol=1e-4)
    found = [(loss(start.angles, start.head + s) - loss(start.angles, start.head - s)) / (2 * step) for s in step * np.eye(3)]
    np.testing.assert_allclose(head_slope, found, atol=1e-4)


def test_first_training_step_is_adams() -> None:
    """Adam's first step moves every parameter by the learning rate against its slope."""
    inputs, labels = toy(12)
    model = QNN(CUT, 2, ModelSection(steps=1, learning_rate=0.05))
    before, after = model.initial([3]), model.train(inputs, labels, [3])
    targets, step = one_hot(labels, 2), 1e-4
    slopes = []
    for shift in step * np.eye(len(before.angles)):
        pair = [exact_readout(CUT, before.angles + sign * shift, inputs, "ry") for sign in (1, -1)]
        above, below = (cross_entropy(model.head.logits(before.head, values), targets)[0].mean() for values in pair)
        slopes.append((above - below) / (2 * step))
    clear = np.abs(slopes) > 1e-3
    assert clear.sum() >= 6
    np.testing.assert_allclose((after.angles - before.angles)[clear], -0.05 * np.sign(slopes)[clear], atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("made", [APART, CUT], ids=["apart", "cut"])
def test_training_fits_a_separable_set(made: Design, head: str) -> None:
    inputs, labels = toy()
    fresh, fresh_labels = toy(40, seed=1)
    model = QNN(made, 2, ModelSection(head=head))

    def loss(parameters: Parameters) -> float:
        return -float(np.mean(np.log(model.probabilities(parameters, inputs)[np.arange(len(labels)), labels])))

    trained = model.train(inputs, labels, [0])
    assert loss(trained) < 0.5 * loss(model.initial([0]))
    chances = model.probabilities(trained, fresh)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert np.mean(model.probabilities(trained, inputs).argmax(axis=1) == labels) >= 0.95
    assert np.mean(chances.argmax(axis=1) == fresh_labels) >= 0.9


def test_same_seed_same_bits() -> None:
    inputs, labels = toy()
    found = [QNN(CUT, 2, ModelSection(steps=10)).train(inputs, labels, [seed]) for seed in (4, 4, 5)]
    np.testing.assert_array_equal(found[0].angles, found[1].angles)
    np.testing.assert_array_equal(found[0].head, found[1].head)
    assert not np.array_equal(found[0].angles, found[2].angles)


def test_train_leaves_the_model_alone() -> None:
    inputs, labels = toy()
    model = QNN(APART, 2, ModelSection(steps=2))
    first = model.train(inputs, labels, [0])
    np.testing.assert_array_equal(first.angles, model.train(inputs, labels, [0]).angles)


def test_logits_are_additive_over_parts_without_cuts() -> None:
    """What a part adds does not depend on the other part's inputs: mixed differences vanish. A cut gate ends that."""
    one, other = toy(1)[0][0], toy(2, seed=5)[0][1]
    mixed = np.array([one, other, [*one[:2], *other[2:]], [*other[:2], *one[2:]]])
    for made, additive in ((APART, True), (CUT, False)):
        model = QNN(made, 2)
        parameters = model.initial([0])
        logits = np.log(model.probabilities(parameters, mixed))
        margin = logits[:, 0] - logits[:, 1]
        interaction = margin[0] + margin[1] - margin[2] - margin[3]
        assert (abs(interaction) < 1e-4) == additive, interaction


def test_part_blocks_read_what_the_whole_reads() -> None:
    """Without cuts the providers' circuits, run apart, give the register's ⟨Z⟩."""
    inputs, _ = toy(6)
    angles = QNN(APART, 2).initial([0]).angles
    stack = CircuitStack(part_fragments(APART, "ry"), 4)
    readout = stack.readout(angles[None], inputs[None])[0]
    np.testing.assert_allclose(readout, exact_readout(APART, angles, inputs, "ry"), atol=1e-5)


def test_frozen_readout_is_added_and_not_trained() -> None:
    """A thief's situation: one part is trained, the other's ⟨Z⟩ is given; the head sees the sum."""
    inputs, labels = toy()
    first, second = part_fragments(APART, "ry")
    both, half = CircuitStack([first, second], 4), CircuitStack([first], 4)
    head = make_head("scaled", 4, 2)
    start = QNN(APART, 2).initial([0])
    frozen = both.readout(start.angles[None], inputs[None])[0]
    frozen[:, list(first.qubits)] = 0
    many = train_stack(half, head, inputs[None], one_hot(labels, 2)[None], Parameters.stack([start]), 20, 0.1, frozen=frozen[None])
    trained = many[0]
    moved = trained.angles != start.angles
    assert {*np.flatnonzero(moved)} <= set(first.weights)
    assert moved.sum() >= len(first.weights) - 1

    def loss(parameters: Parameters) -> float:
        readout = frozen + half.readout(parameters.angles[None], inputs[None])[0]
        return float(cross_entropy(head.logits(parameters.head, readout), one_hot(labels, 2))[0].mean())

    assert loss(trained) < loss(start)


def test_a_stack_without_circuits_trains_the_head_alone() -> None:
    generator = np.random.default_rng(0)
    frozen, labels = generator.uniform(-1, 1, (30, 2)), np.arange(30) % 2
    frozen[:, 0] += 0.8 * (1 - 2 * labels)
    head = make_head("linear", 2, 2)
    start = Parameters(np.zeros((1, 0)), np.zeros((1, 6)))
    targets = one_hot(labels, 2)[None]
    trained = train_stack(CircuitStack([], 2), head, np.zeros((1, 30, 2)), targets, start, 80, 0.1, frozen=frozen[None])[0]
    assert np.mean(head.logits(trained.head, frozen).argmax(axis=1) == labels) > 0.8


def test_symbols_are_those_of_the_blocks() -> None:
    for fragment in joint_fragments(CUT, "ry"):
        names = {input_symbol(q) for q in fragment.qubits} | {weight_symbol(index) for index in fragment.weights}
        assert cirq.parameter_names(fragment.circuit) == names


# What the service answers


@pytest.mark.parametrize("made", [APART, CUT], ids=["apart", "cut"])
def test_answers_without_shots_are_exact(made: Design) -> None:
    inputs, _ = toy(5)
    model = QNN(made, 2)
    many = Parameters.stack([model.initial([seed]) for seed in (0, 1)])
    both = np.stack([inputs, inputs[::-1]])
    np.testing.assert_array_equal(model.answers(many, both, [[0], [1]]), model.probabilities(many, both))


@pytest.mark.parametrize("made", [APART, CUT], ids=["apart", "cut"])
def test_answers_from_shots_are_a_function_of_the_key(made: Design) -> None:
    """Same key, same bits, whatever other models are asked; another key, other outcomes."""
    inputs, _ = toy(5)
    model = QNN(replace(made, shots=50), 2)
    many = Parameters.stack([model.initial([seed]) for seed in (0, 1)])
    both = np.stack([inputs, inputs[::-1]])
    found = model.answers(many, both, [[7], [8]])
    np.testing.assert_array_equal(model.answers(many, both, [[7], [8]]), found)
    np.testing.assert_array_equal(model.answers(Parameters.stack([many[1]]), both[1:], [[8]])[0], found[1])
    other = model.answers(many, both, [[7], [9]])
    np.testing.assert_array_equal(other[0], found[0])
    assert not np.array_equal(other[1], found[1])


def test_a_model_that_has_answered_from_cut_circuits_can_be_pickled() -> None:
    inputs, labels = toy(6)
    model = QNN(replace(CUT, shots=20), 2, ModelSection(steps=2))
    trained = Parameters.stack([model.train(inputs, labels, [0])])
    answers = model.answers(trained, inputs[None], [[0]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).answers(trained, inputs[None], [[0]]), answers)
