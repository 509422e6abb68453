"""What faults do to circuits and results, against Cirq's simulators."""

import cirq
import numpy as np
import pytest
from planted import gates

from qumos_env.attacks.integrity.faults import (
    FLIPPED_RESULTS,
    REPLAYED_RESULTS,
    SCALED_RESULTS,
    ExposedCircuits,
    Seat,
    angle_errors,
    crosstalk,
    dropped_gates,
    swapped_angles,
)
from qumos_env.attacks.integrity.noisy_circuits import PROMISED, NoisyCircuits, scaled_noise
from qumos_env.design import Design
from qumos_env.design.circuits import bind, input_symbol, joint_fragments, weight_symbol
from qumos_env.simulation.channels import NoiseSpec, ReadoutError

# Every kind of gate, and an RZZ across the parts.
MIXED = Design(
    (0, 0, 1, 1), ("aurora", "borealis"), gates("h 0, ry 0, cx 0 1, rx 1, rzz 0 1, rzz 1 2, reupload 2, ry 2, cz 2 3, h 3, rz 3, cx 3 2")
)


def simulated_z(circuit: cirq.Circuit, inputs: np.ndarray, n_qubits: int) -> np.ndarray:
    """⟨Z⟩ ``[rows, n_qubits]`` by Cirq's simulator."""
    line = cirq.LineQubit.range(n_qubits)
    resolvers = [{input_symbol(q): row[q] for q in range(n_qubits)} for row in inputs]
    observables = [cirq.Z(qubit) for qubit in line]
    found = [cirq.Simulator(dtype=np.complex128).simulate_expectation_values(circuit, observables, one) for one in resolvers]
    return np.real(found)


def whole(design: Design, angles: np.ndarray) -> cirq.Circuit:
    """The design as one circuit with its ``angles`` filled in."""
    circuit = cirq.Circuit(fragment.circuit.all_operations() for fragment in joint_fragments(design, "rx"))
    return bind(circuit, {weight_symbol(index): angle for index, angle in enumerate(angles)})


@pytest.fixture
def case() -> tuple[ExposedCircuits, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    return ExposedCircuits(MIXED, "rx"), generator.uniform(-3, 3, (3, MIXED.n_trainable)), generator.uniform(-3, 3, (3, 5, 4))


def test_exposed_circuits_are_the_design(case: tuple[ExposedCircuits, np.ndarray, np.ndarray]) -> None:
    circuits, angles, inputs = case
    values = circuits.stack.readout(circuits.honest(angles), inputs)
    expected = np.stack([simulated_z(whole(MIXED, one), rows, 4) for one, rows in zip(angles, inputs, strict=True)])
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_a_provider_reaches_its_own_gates_only(case: tuple[ExposedCircuits, np.ndarray, np.ndarray]) -> None:
    circuits, angles, _ = case
    # Canonical order decides the numbers; the angle of the cut gate is nobody's.
    trainable = [placed.gate for placed in MIXED.placed_gates if placed.gate.trainable]
    for provider, qubits in (("aurora", {0, 1}), ("borealis", {2, 3})):
        seat = circuits.seats[provider]
        assert set(seat.qubits) == qubits
        assert [trainable[i] for i in seat.trained] == [gate for gate in trainable if set(gate.qubits) <= qubits]
        assert len(seat.fixed) == sum(not gate.trainable and gate.name != "reupload" and set(gate.qubits) <= qubits for gate in MIXED.gates)
    everything = [*circuits.seats["aurora"].fixed, *circuits.seats["borealis"].fixed]
    everything += [*circuits.seats["aurora"].crosstalk, *circuits.seats["borealis"].crosstalk]
    assert sorted(everything) == list(range(MIXED.n_trainable, circuits.honest(angles).shape[1]))


def test_dropped_gates_are_those_of_one_provider(case: tuple[ExposedCircuits, np.ndarray, np.ndarray]) -> None:
    """All gates of borealis dropped: what is left are the inputs, the gates of aurora and the cut."""
    circuits, angles, inputs = case
    changed = np.stack([dropped_gates(one, circuits.seats["borealis"], 1.0, np.random.default_rng(0)) for one in circuits.honest(angles)])
    theirs = {cirq.LineQubit(2), cirq.LineQubit(3)}

    def kept(operation: cirq.Operation) -> bool:
        return cirq.is_parameterized(operation) or not set(operation.qubits) <= theirs

    expected = []
    for one, rows in zip(angles, inputs, strict=True):
        circuit = cirq.Circuit(operation for operation in whole(MIXED, one).all_operations() if kept(operation))
        expected.append(simulated_z(circuit, rows, 4))
    np.testing.assert_allclose(circuits.stack.readout(changed, inputs), np.stack(expected), atol=1e-5)


def test_crosstalk_turns_outer_qubits_behind_every_moment() -> None:
    design = Design((0, 0, 0, 1), ("aurora", "borealis"), gates("ry 0, cz 0 1, ry 1, cx 1 2, ry 3"))
    circuits, generator = ExposedCircuits(design, "rx"), np.random.default_rng(4)
    angles, inputs = generator.uniform(-3, 3, (1, design.n_trainable)), generator.uniform(-3, 3, (1, 6, 4))
    seat = circuits.seats["aurora"]
    assert len(seat.crosstalk) == 4, "two outer qubits, two axes"
    changed = crosstalk(circuits.honest(angles)[0], seat, 0.3, np.random.default_rng(5))
    np.testing.assert_array_equal(np.flatnonzero(changed != circuits.honest(angles)[0]), seat.crosstalk)
    (x0, z0, x2, z2), q = changed[seat.crosstalk], cirq.LineQubit.range(4)
    disturbed = cirq.Circuit()
    for depth, moment in enumerate(joint_fragments(design, "rx")[0].circuit):
        disturbed += cirq.Circuit(moment)
        if depth >= 1:
            disturbed += cirq.Circuit([cirq.rx(x0)(q[0]), cirq.rz(z0)(q[0]), cirq.rx(x2)(q[2]), cirq.rz(z2)(q[2])])
    disturbed += joint_fragments(design, "rx")[1].circuit
    disturbed = bind(disturbed, {weight_symbol(i): angle for i, angle in enumerate(angles[0])})
    np.testing.assert_allclose(circuits.stack.readout(changed[None], inputs)[0], simulated_z(disturbed, inputs[0], 4), atol=1e-5)


def test_angles_change_as_described() -> None:
    seat = Seat(np.arange(2), np.arange(400), np.array([], int), np.array([], int))
    angles, generator = np.linspace(0, 1, 500), np.random.default_rng(0)
    swapped = swapped_angles(angles, seat, 0.5, generator)
    assert sorted(swapped) == sorted(angles)
    assert 150 < (swapped != angles).sum() < 250
    errors = angle_errors(angles, seat, 0.2, generator) - angles
    assert errors[:400].std() == pytest.approx(0.2, rel=0.15)
    assert not errors[400:].any()


def test_results_change_as_described() -> None:
    values, generator = np.random.default_rng(1).uniform(-1, 1, (2000, 3)), np.random.default_rng(2)
    results = [fault.results for fault in (FLIPPED_RESULTS, SCALED_RESULTS, REPLAYED_RESULTS)]
    flip, scale, replay = (one for one in results if one is not None)
    flips = flip(values, 0.3, generator) == -values
    assert flips.mean() == pytest.approx(0.3, abs=0.03)
    np.testing.assert_allclose(scale(values, 0.25, generator), 0.75 * values)
    old = (replay(values, 0.3, generator) == values[0]).all(axis=1)
    assert old.mean() == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("factors", [{}, {"borealis": 5.0}])
def test_worse_hardware_is_worse_at_one_provider(factors: dict[str, float], case: tuple[ExposedCircuits, np.ndarray, np.ndarray]) -> None:
    """Against Cirq's density matrices, with channels put behind the gates by hand."""
    circuits, angles, inputs = case
    promised = NoiseSpec(0.01, 0.03, readout=ReadoutError(0.02, 0.05))
    values = NoisyCircuits(circuits, promised).readout(circuits.honest(angles), inputs, factors)
    scale = [factors.get(MIXED.assignment[part], 1.0) for part in MIXED.partition]
    noisy = cirq.Circuit()
    for operation in whole(MIXED, angles[0]).all_operations():
        noisy.append(operation)
        places = [qubit.x for qubit in operation.qubits if isinstance(qubit, cirq.LineQubit)]
        if len(places) == 2 and MIXED.partition[places[0]] == MIXED.partition[places[1]]:
            noisy.append(cirq.depolarize(0.03 * scale[places[0]], 2)(*operation.qubits))
        else:
            noisy.append(cirq.depolarize(0.01 * scale[place])(cirq.LineQubit(place)) for place in places)
    simulator = cirq.DensityMatrixSimulator(dtype=np.complex128)
    for row, found in zip(inputs[0], values[0], strict=True):
        resolved = cirq.resolve_parameters(noisy, {input_symbol(q): row[q] for q in range(4)})
        state = simulator.simulate(resolved).final_density_matrix
        for qubit in range(4):
            one = np.diag(cirq.partial_trace(state.reshape((2,) * 8), [qubit]))[1].real
            reported = one * (1 - 0.05 * scale[qubit]) + (1 - one) * 0.02 * scale[qubit]
            assert found[qubit] == pytest.approx(1 - 2 * reported, abs=2e-5)


def test_rates_stop_at_complete_depolarisation() -> None:
    worst = scaled_noise(PROMISED, 1e6)
    assert (worst.one_qubit, worst.two_qubit, worst.readout.zero_as_one) == (0.75, 0.9375, 0.5)
