"""Wire cuts and parts in sequence."""

from __future__ import annotations

from itertools import product

import cirq
import numpy as np
import pytest
import sympy
import torch

from qumos_env.design import Design, Gate
from qumos_env.design.circuits import input_symbol, part_fragments, weight_symbol
from qumos_env.errors import QumosError
from qumos_env.model.cutting.wire_cuts import BASES, COEFFICIENTS, EIGENSTATES, WireCut
from qumos_env.model.sequential import SequentialParts, sequential_parts
from qumos_env.simulation.layer import QuantumLayer

LINE = cirq.LineQubit.range(5)
WEIGHTS = {f"w{i}": value for i, value in enumerate(np.random.default_rng(0).uniform(-3, 3, 14))}


def fragment(qubits: list[cirq.LineQubit], first_weight: int, features: list[str]) -> cirq.Circuit:
    """Features, then RX, RY and a chain of CZ on ``qubits``."""
    encode = [cirq.ry(sympy.Symbol(name)).on(qubit) for name, qubit in zip(features, qubits, strict=False)]
    turns = [
        gate(sympy.Symbol(f"w{first_weight + 2 * i + j}")).on(qubit)
        for i, qubit in enumerate(qubits)
        for j, gate in enumerate((cirq.rx, cirq.ry))
    ]
    chain = [cirq.CZ(a, b) for a, b in zip(qubits, qubits[1:], strict=False)]
    return cirq.Circuit(encode, turns[: len(qubits)], chain, turns[len(qubits) :], chain)


def two_sides(wires: int) -> WireCut:
    """Three qubits upstream, two more downstream; features on both sides."""
    upstream = fragment(LINE[:3], 0, ["x0", "x1", "x2"])
    downstream = fragment(LINE[3 - wires :], 6, ["x3", "x0"])
    return WireCut(upstream, downstream, LINE[3 - wires : 3], ["x0", "x1", "x2", "x3"])


def joined(wires: int, row: np.ndarray) -> np.ndarray:
    """⟨Z⟩ of the five qubits, uncut, by Cirq's simulator."""
    circuit = fragment(LINE[:3], 0, ["x0", "x1", "x2"]) + fragment(LINE[3 - wires :], 6, ["x3", "x0"])
    values = dict(WEIGHTS) | {f"x{i}": value for i, value in enumerate(row)}
    simulator = cirq.Simulator(dtype=np.complex128)
    found = simulator.simulate_expectation_values(circuit, [cirq.Z(qubit) for qubit in LINE], values, qubit_order=LINE)
    return np.real(found)


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, np.pi, (count, 4))


# Wire cuts


def test_terms_of_a_wire_add_up_to_the_identity() -> None:
    """Measured and prepared with these coefficients, every density matrix comes out as it went in."""
    vectors = {"X": [[1, 1], [1, -1]], "Y": [[1, 1j], [1, -1j]], "Z": [[2**0.5, 0], [0, 2**0.5]]}
    projectors = [np.outer(v, np.conj(v)) / 2 for basis in BASES for v in np.array(vectors[basis])]
    matrix = np.random.default_rng(0).normal(size=(2, 2, 2)) @ [1, 1j]
    found = sum(
        COEFFICIENTS[i, j] * np.trace(measured @ matrix) * prepared
        for (i, measured), (j, prepared) in product(enumerate(projectors), repeat=2)
    )
    np.testing.assert_allclose(found, matrix, atol=1e-12)


@pytest.mark.parametrize("wires", [1, 2])
def test_cut_wires_agree_with_the_joined_circuit(wires: int) -> None:
    cut, inputs = two_sides(wires), rows(3)
    assert len(cut.upstream_variants) == 3**wires and len(cut.downstream_variants) == 6**wires
    results = cut.run(WEIGHTS, inputs)
    expected = np.array([joined(wires, row) for row in inputs])
    assert [*cut.kept, *cut.received] == LINE
    np.testing.assert_allclose(cut.reconstruct(results), expected, atol=1e-5)


def test_variants_are_what_was_run() -> None:
    """The circuits by Cirq's simulator: outcome probabilities upstream, ⟨Z⟩ downstream."""
    cut, inputs = two_sides(1), rows(1)
    results = cut.run(WEIGHTS, inputs)
    values = dict(WEIGHTS) | {f"x{i}": value for i, value in enumerate(inputs[0])}
    simulator = cirq.Simulator(dtype=np.complex128)
    for (basis,), circuit in cut.upstream_variants.items():
        (z,) = np.real(simulator.simulate_expectation_values(circuit, [cirq.Z(cut.wires[0])], values))
        place = EIGENSTATES.index(f"{basis}+")
        np.testing.assert_allclose(results.outcomes[0, place : place + 2, 0], [(1 + z) / 2, (1 - z) / 2], atol=1e-6)
    for (state,), circuit in cut.downstream_variants.items():
        z = np.real(simulator.simulate_expectation_values(circuit, [cirq.Z(qubit) for qubit in cut.received], values))
        np.testing.assert_allclose(results.values[0, EIGENSTATES.index(state)], z, atol=1e-6)


@pytest.mark.parametrize(("wires", "shots"), [(1, 30), (2, 50)])
def test_shots_of_a_wire_cut_have_the_predicted_mean_and_variance(wires: int, shots: int) -> None:
    repeats = 4000
    cut, inputs = two_sides(wires), rows(1)
    predicted = cut.predicted_variance(cut.run(WEIGHTS, inputs), shots)[0]
    estimates = cut.reconstruct(cut.run(WEIGHTS, np.repeat(inputs, repeats, axis=0), shots, np.random.default_rng(2)))
    errors = (estimates.mean(axis=0) - joined(wires, inputs[0])) / np.sqrt(predicted / repeats)
    assert np.abs(errors).max() < 4
    np.testing.assert_allclose(estimates.var(axis=0), predicted, rtol=0.1)


def test_wire_cuts_that_do_not_fit_are_refused() -> None:
    a, b, c = LINE[:3]
    up, down = cirq.Circuit(cirq.CZ(a, b)), cirq.Circuit(cirq.CZ(b, c))
    for wires, message in (([], "1 to 3"), ([b, b], "1 to 3"), ([c], "not in both"), ([a], "not in both")):
        with pytest.raises(QumosError, match=message):
            WireCut(up, down, wires)
    with pytest.raises(QumosError, match=r"q\(0\) is in both circuits but no wire"):
        WireCut(up, cirq.Circuit(cirq.CZ(a, b)), [b])
    cut = two_sides(1)
    with pytest.raises(QumosError, match="no value for the symbol"):
        cut.run({}, rows(1))
    with pytest.raises(QumosError, match="a generator"):
        cut.run(WEIGHTS, rows(1), shots=10)


# Parts in sequence


def three_parts() -> Design:
    gates = [Gate(name, (qubit,)) for name in ("ry", "rx") for qubit in range(6)]
    gates += [Gate("cz", pair) for pair in ((0, 1), (2, 3), (4, 5))] + [Gate("ry", (qubit,)) for qubit in range(6)]
    return Design((0, 0, 1, 1, 2, 2), ("a", "b", "c"), tuple(gates))


def test_parts_in_sequence_are_the_composition_of_their_circuits() -> None:
    design = three_parts()
    model = sequential_parts(design, "ry", angle_range=(0.1, 2.0), seed=3)
    inputs = torch.rand(4, 2, generator=torch.Generator().manual_seed(0)) * 3
    simulator = cirq.Simulator(dtype=np.complex128)
    for row, found in zip(inputs.numpy(), model(inputs).detach().numpy(), strict=True):
        angles = row
        for fragment, layer in zip(part_fragments(design, "ry"), model.parts, strict=True):
            values = {weight_symbol(i): w for i, w in zip(fragment.weights, layer.weights.tolist(), strict=True)}
            values |= {input_symbol(q): float(x) for q, x in zip(fragment.qubits, angles, strict=True)}
            line = [cirq.LineQubit(q) for q in fragment.qubits]
            z = np.real(simulator.simulate_expectation_values(fragment.circuit, [cirq.Z(q) for q in line], values, qubit_order=line))
            angles = 0.1 + (z + 1) / 2 * 1.9
        np.testing.assert_allclose(found, z, atol=1e-5)


def test_gradients_run_through_all_parts() -> None:
    """Of every angle of every part and of the inputs, against central differences."""
    model = sequential_parts(three_parts(), "ry", seed=4)
    inputs = torch.tensor([[0.4, 1.9], [2.2, 0.7]], requires_grad=True)

    def loss() -> torch.Tensor:
        return (model(inputs) * torch.tensor([[1.0, -0.5], [0.3, 2.0]])).sum()

    loss().backward()
    for tensor in (inputs, *model.parameters()):
        assert tensor.grad is not None
        expected = torch.zeros_like(tensor)
        for index in np.ndindex(*tensor.shape):
            sides = []
            for step in (0.02, -0.02):
                with torch.no_grad():
                    tensor[index] += step
                    sides.append(loss().item())
                    tensor[index] -= step
            expected[index] = (sides[0] - sides[1]) / 0.04
        np.testing.assert_allclose(tensor.grad.numpy(), expected.numpy(), atol=2e-3)
        assert tensor.grad.abs().max() > 1e-3


def test_parts_that_do_not_follow_each_other_are_refused() -> None:
    narrow = QuantumLayer(cirq.Circuit(cirq.ry(sympy.Symbol("x")).on(LINE[0])), [cirq.Z(LINE[0])], ["x"])
    wide = QuantumLayer(
        cirq.Circuit(cirq.ry(sympy.Symbol(name)).on(qubit) for name, qubit in zip("xy", LINE, strict=False)), [cirq.Z(LINE[0])], ["x", "y"]
    )
    with pytest.raises(QumosError, match=r"part 1 takes 2 input\(s\), part 0 gives 1"):
        SequentialParts([narrow, wide])
    with pytest.raises(QumosError, match="at least one"):
        SequentialParts([])
    with pytest.raises(QumosError, match="parts of 1 and 2 qubits"):
        sequential_parts(Design((0, 0, 1), ("a", "b"), (Gate("ry", (0,)),)), "ry")
    with pytest.raises(QumosError, match="1 gate cut"):
        sequential_parts(Design((0, 1), ("a", "b"), (Gate("rzz", (0, 1)),)), "ry")
