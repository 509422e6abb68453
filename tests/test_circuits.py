"""Designs as Cirq circuits, and their initial angles."""

from __future__ import annotations

from random import Random

import cirq
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qumos_env.design import Design, Gate
from qumos_env.design.circuits import bind, initial_angles, input_symbol, joint_fragments, part_fragments, weight_symbol

LINE = cirq.LineQubit.range(4)
CIRQ = {"rx": cirq.X, "ry": cirq.Y, "rz": cirq.Z, "cz": cirq.CZ, "rzz": cirq.ZZ, "cx": cirq.CX}
TWO = ((0, 0, 1, 1), ("a", "b"))


def design(*gates: tuple[str, tuple[int, ...]], partition: tuple[int, ...] = TWO[0], assignment: tuple[str, ...] = TWO[1]) -> Design:
    return Design(partition, assignment, tuple(Gate(name, qubits) for name, qubits in gates))


def unitary(circuit: cirq.Circuit, qubits: tuple[int, ...], weights: dict[str, float]) -> np.ndarray:
    """Of ``circuit`` on ``qubits``, with input ``x_i`` = 0.1·(i + 1)."""
    line = [cirq.LineQubit(qubit) for qubit in qubits]
    bound = cirq.resolve_parameters(bind(circuit, weights), {input_symbol(q): 0.1 * (q + 1) for q in qubits})
    return bound.unitary(qubit_order=line, qubits_that_should_be_present=line)


# Initial angles


def angle_of(found: Design, key: list[int]) -> dict[tuple[Gate, int, int], float]:
    trainable = [placed for placed in found.placed_gates if placed.gate.trainable]
    return {(p.gate, p.moment, p.copy): angle for p, angle in zip(trainable, initial_angles(found, key), strict=True)}


def test_initial_angles_are_uniform_and_seeded() -> None:
    made = design(*(("ry", (q,)) for _ in range(100) for q in range(4)), *(("rz", (q,)) for q in range(4)))
    angles = initial_angles(made, [0, 1])
    assert angles.shape == (404,) and angles.dtype == np.float64
    assert len(set(angles)) == 404
    assert angles.min() >= -np.pi and angles.max() < np.pi
    assert abs(angles.mean()) < 0.3 and angles.std() == pytest.approx(2 * np.pi / np.sqrt(12), rel=0.1)
    np.testing.assert_array_equal(angles, initial_angles(made, [0, 1]))
    assert not np.intersect1d(angles, initial_angles(made, [0, 2])).size
    assert not np.intersect1d(angles, initial_angles(made, [1, 1])).size


def test_no_trainable_gate_no_angles() -> None:
    assert initial_angles(design(("h", (0,))), [0]).shape == (0,)


SINGLES = st.tuples(st.sampled_from(("rx", "ry", "rz", "h", "reupload")), st.integers(0, 3).map(lambda q: (q,)))
PAIRS = st.tuples(st.sampled_from(("cz", "rzz", "cx")), st.sampled_from([(0, 1), (2, 3)]))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(SINGLES, PAIRS), max_size=14), st.randoms(use_true_random=False))
def test_order_of_commuting_gates_changes_no_angle_and_no_circuit(gates: list[tuple[str, tuple[int, ...]]], random: Random) -> None:
    """Adjacent gates that cirq finds to commute are swapped at random."""
    shuffled = list(gates)
    for _ in range(4 * len(gates)):
        index = random.randrange(max(1, len(shuffled) - 1))
        pair = shuffled[index : index + 2]
        if len(pair) == 2 and not {"h", "reupload"} & {name for name, _ in pair}:
            first, second = (CIRQ[name](*(LINE[q] for q in qubits)) for name, qubits in pair)
            # Pauli gates anticommute where rotations do not commute; square roots tell the two apart.
            if cirq.commutes(first**0.5, second**0.5, default=False):
                shuffled[index : index + 2] = pair[::-1]
    one, other = design(*gates), design(*shuffled)
    assert one.hash == other.hash
    np.testing.assert_array_equal(initial_angles(one, [7]), initial_angles(other, [7]))
    assert joint_fragments(one, "ry") == joint_fragments(other, "ry")


def test_gates_elsewhere_change_no_angle() -> None:
    gates = [("ry", (0,)), ("rzz", (0, 1)), ("rx", (1,)), ("ry", (2,)), ("rx", (0,)), ("rx", (0,))]
    before = angle_of(design(*gates), [3])
    after = angle_of(design(("rz", (3,)), ("h", (3,)), *gates, ("ry", (3,))), [3])
    assert before.items() <= after.items()
    assert len(after) == len(before) + 2


def test_another_moment_qubit_kind_or_part_is_another_angle() -> None:
    found = [
        initial_angles(design(("ry", (0,))), [0])[0],
        initial_angles(design(("h", (0,)), ("ry", (0,))), [0])[0],
        initial_angles(design(("ry", (1,))), [0])[0],
        initial_angles(design(("rx", (0,))), [0])[0],
        initial_angles(design(("ry", (1,)), partition=(0, 1), assignment=("a", "b")), [0])[0],
    ]
    assert len(set(found)) == len(found)


def test_equal_gates_in_one_moment_get_their_own_angles() -> None:
    angles = initial_angles(design(("rzz", (0, 1)), ("rzz", (0, 1))), [0])
    assert angles[0] != angles[1]


# Blocks


def test_part_blocks_hold_only_their_part() -> None:
    made = design(("ry", (0,)), ("cz", (0, 1)), ("rx", (3,)), ("rzz", (1, 2)), ("rzz", (2, 3)), ("ry", (1,)))
    first, second = part_fragments(made, "ry")
    assert (first.qubits, second.qubits) == ((0, 1), (2, 3))
    for fragment in (first, second):
        names = {input_symbol(q) for q in fragment.qubits} | {weight_symbol(index) for index in fragment.weights}
        assert cirq.parameter_names(fragment.circuit) == names
        assert fragment.circuit.all_qubits() == {cirq.LineQubit(q) for q in fragment.qubits}
    cut = {index for index, placed in enumerate(p for p in made.placed_gates if p.gate.trainable) if placed in made.cut_gates}
    assert len(cut) == 1
    assert {*first.weights, *second.weights} == set(range(made.n_trainable)) - cut
    assert len(first.weights) + len(second.weights) == made.n_trainable - 1


def test_parts_without_cuts_stay_apart() -> None:
    made = design(("ry", (0,)), ("ry", (2,)))
    assert joint_fragments(made, "ry") == part_fragments(made, "ry")


def test_a_cut_gate_joins_its_parts() -> None:
    made = design(("ry", (0,)), ("rzz", (1, 4)), ("rx", (2,)), partition=(0, 0, 1, 1, 2, 2), assignment=("a", "b", "a"))
    joined, alone = joint_fragments(made, "ry")
    assert joined.qubits == (0, 1, 4, 5) and alone.qubits == (2, 3)
    assert sorted([*joined.weights, *alone.weights]) == [0, 1, 2]


def test_a_chain_of_cuts_joins_all_parts() -> None:
    made = design(
        ("rzz", (2, 3)), ("rzz", (0, 2)), ("rzz", (1, 3)), ("rzz", (0, 1)), ("ry", (4,)),
        partition=(0, 1, 2, 3, 4), assignment=tuple("abcde"),
    )  # fmt: skip
    joined, alone = joint_fragments(made, "ry")
    assert joined.qubits == (0, 1, 2, 3) and alone.qubits == (4,)


def test_a_part_without_gates_is_its_encoding() -> None:
    fragment = part_fragments(design(("ry", (0,))), "rx")[1]
    expected = np.kron(cirq.unitary(cirq.rx(0.3)), cirq.unitary(cirq.rx(0.4)))
    np.testing.assert_allclose(unitary(fragment.circuit, fragment.qubits, {}), expected, atol=1e-9)


@pytest.mark.parametrize("axis", ["rx", "ry", "rz"])
def test_the_circuit_is_the_designs(axis: str) -> None:
    """Encoding, every kind of gate and re-upload against a product of matrices built by hand."""
    made = design(
        ("h", (0,)), ("ry", (1,)), ("cx", (1, 0)), ("reupload", (1,)), ("rzz", (0, 1)), ("rx", (0,)), ("cz", (0, 1)), ("rz", (1,)),
        partition=(0, 0), assignment=("a",),
    )  # fmt: skip
    (fragment,) = joint_fragments(made, axis)
    weights = {"ry": 0.5, "rzz": -1.1, "rx": 0.7, "rz": 2.0}
    numbers = {weight_symbol(i): weights[p.gate.name] for i, p in enumerate(p for p in made.placed_gates if p.gate.trainable)}
    i, x, y, z = np.eye(2), np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])

    def turn(pauli: np.ndarray, angle: float) -> np.ndarray:
        return np.cos(angle / 2) * np.eye(len(pauli)) - 1j * np.sin(angle / 2) * pauli

    h = (x + z) / np.sqrt(2)
    encode = {"rx": x, "ry": y, "rz": z}[axis]
    start = h if axis == "rz" else i
    order = [
        np.kron(turn(encode, 0.1) @ start, turn(encode, 0.2) @ start),
        np.kron(h, turn(y, weights["ry"])),
        np.array([[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]]),
        np.kron(i, turn(encode, 0.2)),
        turn(np.kron(z, z), weights["rzz"]),
        np.kron(turn(x, weights["rx"]), i),
        np.diag([1, 1, 1, -1]),
        np.kron(i, turn(z, weights["rz"])),
    ]
    expected = np.linalg.multi_dot(order[::-1])
    np.testing.assert_allclose(unitary(fragment.circuit, (0, 1), numbers), expected, atol=1e-9)


def test_bind_fills_weights_and_leaves_inputs() -> None:
    (fragment,) = part_fragments(design(("ry", (0,)), ("rx", (1,)), partition=(0, 0), assignment=("a",)), "ry")
    bound = bind(fragment.circuit, {"w0": np.float64(0.25), "w1": 1.5})
    assert cirq.parameter_names(bound) == {"x0", "x1"}
    assert cirq.ry(0.25)(cirq.LineQubit(0)) in bound.all_operations()
    assert cirq.parameter_names(fragment.circuit) == {"x0", "x1", "w0", "w1"}
    partly = bind(fragment.circuit, {"w1": 1.5})
    assert cirq.parameter_names(partly) == {"x0", "x1", "w0"}
