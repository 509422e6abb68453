"""Outages and latency: planted truths, Cirq, scikit-learn and numerical integration as oracles."""

import dataclasses

import cirq
import numpy as np
import pytest
from planted import TWO_LAYERS, decided_by_aurora, gates, named
from scipy.integrate import quad
from sklearn.linear_model import LogisticRegression

from qumos_env.attacks.availability.slowdown import (
    ATTACKS_ON_ONE,
    Load,
    distribution,
    mean_response,
    percentile_response,
    simulated_responses,
)
from qumos_env.attacks.suite import ATTACKS
from qumos_env.design import Design
from qumos_env.design.circuits import bind, input_symbol, part_fragments, weight_symbol
from qumos_env.evaluation.outage import FALLBACKS, outage_answers, outages, without_gates_to
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.statistics import mean_interval
from qumos_env.model.qnn import QNN
from qumos_env.model.training import Parameters
from qumos_env.scenario.sections import ModelSection
from qumos_env.simulation.channels import NoiseSpec

CUT = Design((0, 0, 1, 1), ("aurora", "borealis"), gates(TWO_LAYERS + ", rzz 1 2, rx 1, rx 2"))


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return decided_by_aurora(tmp_path_factory.mktemp("data"))


def answers(victim: Service, fallback: str) -> dict[str, np.ndarray]:
    """Per provider, predictions for the test rows while it is out."""
    train = victim.together("train")
    found = outage_answers(
        victim.model, victim.trained, victim.encode(train), victim.labels[train], victim.encode(victim.test), victim.keys("1"), fallback
    )
    return {provider: one.argmax(axis=-1) for provider, one in found.items()}


def accuracy(victim: Service, predicted: np.ndarray) -> np.ndarray:
    return (predicted == victim.labels[victim.test]).mean(axis=1)


@pytest.mark.parametrize("fallback", FALLBACKS)
def test_an_outage_costs_what_the_part_knows(fallback: str, victim: Service) -> None:
    full = accuracy(victim, victim.answer(victim.test, "1").argmax(axis=-1))
    assert full.mean() > 0.9
    without = {provider: accuracy(victim, predicted) for provider, predicted in answers(victim, fallback).items()}
    assert without["aurora"].mean() < 0.65
    loss = mean_interval(full - without["borealis"])
    assert loss.low <= 0.01 and abs(loss.mean) < 0.02


def test_fallbacks_fill_in_what_is_missing(victim: Service) -> None:
    """The values that the head sees, recomputed from the readouts of the whole service."""
    train, inputs = victim.together("train"), victim.encode(victim.test)
    full = victim.model.stack.readout(victim.trained.angles, inputs)
    means = victim.model.stack.readout(victim.trained.angles, victim.encode(train)).mean(axis=1)
    found = outages(victim.model, victim.trained, victim.encode(train), victim.labels[train], inputs, victim.keys("1"))
    for provider, qubits in (("aurora", [0, 1]), ("borealis", [2, 3])):
        for fallback, fill in (("zero", np.zeros((4, 2))), ("mean", means[:, qubits])):
            values = full.copy()
            values[:, :, qubits] = fill[:, None]
            logits = victim.model.head.logits(victim.trained.head, values)
            expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
            np.testing.assert_allclose(FALLBACKS[fallback](found[provider]), expected, atol=1e-6)


def test_a_new_head_is_about_as_good_as_a_logistic_regression_on_what_is_left(victim: Service) -> None:
    """From a head that answers the contrary: only one that is really retrained recovers."""
    contrary = dataclasses.replace(victim, trained=Parameters(victim.trained.angles, -victim.trained.head))
    assert accuracy(victim, answers(contrary, "zero")["borealis"]).mean() < 0.1
    mine = accuracy(victim, answers(contrary, "new head")["borealis"])
    train = victim.together("train")
    left = [victim.model.stack.readout(victim.trained.angles, victim.encode(rows))[:, :, :2] for rows in (train, victim.test)]
    pairs = zip(*left, victim.labels[train], strict=True)
    oracle = accuracy(victim, np.stack([LogisticRegression().fit(known, truth).predict(new) for known, new, truth in pairs]))
    np.testing.assert_allclose(mine, oracle, atol=0.05)


@pytest.mark.parametrize("shots", [None, 20000])
def test_the_others_run_without_the_gates_that_were_cut(shots: int | None) -> None:
    design = Design(CUT.partition, CUT.assignment, CUT.gates, shots)
    model, generator = QNN(design, 2, ModelSection(), "ry"), np.random.default_rng(1)
    trained = Parameters.stack([model.initial([seed]) for seed in range(3)])
    inputs = generator.uniform(-3, 3, (3, 5, 4))
    found = outages(model, trained, inputs, np.zeros((3, 5), int), inputs, [(seed,) for seed in range(3)])
    kept = part_fragments(design, "ry")[0]
    for angles, rows, rest, exact in zip(trained.angles, inputs, found["borealis"].rest, found["borealis"].train_rest, strict=True):
        bound = bind(kept.circuit, {weight_symbol(i): angle for i, angle in enumerate(angles)})
        line = [cirq.LineQubit(q) for q in kept.qubits]
        expected = [
            cirq.Simulator().simulate_expectation_values(bound, [cirq.Z(q) for q in line], {input_symbol(q): row[q] for q in kept.qubits})
            for row in rows
        ]
        np.testing.assert_allclose(rest[:, :2], np.real(expected), atol=1e-5 if shots is None else 0.04)
        np.testing.assert_allclose(exact[:, :2], np.real(expected), atol=1e-5)
        assert not rest[:, 2:].any()


def test_a_service_at_one_provider_is_gone_with_it() -> None:
    for gate_list in (TWO_LAYERS, TWO_LAYERS + ", rzz 1 2"):
        design = Design((0, 0, 1, 1), ("aurora", "aurora"), gates(gate_list))
        model, inputs = QNN(design, 2), np.random.default_rng(1).uniform(-3, 3, (3, 6, 4))
        trained, labels = Parameters.stack([model.initial([seed]) for seed in range(3)]), np.tile([0, 1, 1, 0, 1, 1], (3, 1))
        for fallback in FALLBACKS:
            (gone,) = outage_answers(model, trained, inputs, labels, inputs, [(s,) for s in range(3)], fallback).values()
            assert np.ptp(gone, axis=1).max() < 1e-6, "the same answer to every query"


def test_outage_measurements_have_the_full_service_beside_them(victim: Service) -> None:
    measurements = named(ATTACKS["outage"].run(victim).measurements)
    full = accuracy(victim, victim.answer(victim.test, "1").argmax(axis=-1))
    for measurement in measurements.values():
        assert measurement.values.shape == (4,)
        np.testing.assert_array_equal(measurement.controls, full)
    worst = measurements["worst outage, best fallback: accuracy"]
    np.testing.assert_array_equal(worst.values, measurements["without aurora, best fallback: accuracy"].values)
    assert measurements["no provider, majority class: accuracy"].values.mean() == pytest.approx(0.5, abs=0.05)
    assert measurements["no provider, linear model on raw features: accuracy"].values.mean() > 0.9


# Latency

LOADS = {
    "one": [Load(0.7)],
    "two": [Load(0.5), Load(0.5)],
    "flooded": [Load(0.9), Load(0.5), Load(0.3)],
    "slow": [Load(0.5, slow_down=5.0), Load(0.5)],
    "silent": [Load(0.5, silence=0.03), Load(0.5, silence=0.2), Load(0.2)],
}


def test_one_queue_is_the_textbook_queue() -> None:
    """Kleinrock: mean 1/(μ(1 − ρ)), and the 95th percentile ln 20 times that."""
    assert mean_response([Load(0.8)], 0.0) == pytest.approx(5)
    assert percentile_response([Load(0.8)], 0.0) == pytest.approx(5 * np.log(20))


@pytest.mark.parametrize("name", LOADS)
def test_formulas_agree_with_the_distribution_and_the_simulation(name: str) -> None:
    loads, timeout = LOADS[name], 12.0
    integral = sum(quad(lambda t: 1 - distribution(loads, t, timeout), a, b)[0] for a, b in ((0, timeout), (timeout, 400)))
    assert mean_response(loads, timeout) == pytest.approx(integral, rel=1e-6)
    times = simulated_responses(loads, timeout, np.random.default_rng(1), (4000,))
    assert abs(times.mean() - mean_response(loads, timeout)) < 4 * times.std() / np.sqrt(len(times))
    point = percentile_response(loads, timeout)
    assert distribution(loads, point + 1e-6, timeout) >= 0.95 >= distribution(loads, point - 1e-6, timeout)
    # An atom at the timeout may hold the percentile: compare with both sides of it.
    spread = 4 * np.sqrt(0.95 * 0.05 / len(times))
    assert (times <= point + 1e-6).mean() > 0.95 - spread
    assert (times < point - 1e-6).mean() < 0.95 + spread


def test_attacks_on_one_provider_slow_the_service_down(victim: Service) -> None:
    measurements = ATTACKS["slowdown"].run(victim).measurements
    assert len(measurements) == 2 * len(ATTACKS_ON_ONE)
    for measurement in measurements:
        assert measurement.values.shape == (4,)
        assert measurement.gain.mean > 0.3
    np.testing.assert_allclose(measurements[0].controls, 1, atol=0.15)


def test_the_rest_of_a_noisy_service_is_noisy() -> None:
    """Readouts of the remaining part are those of cirq's density matrices with its provider's noise, and no longer the exact ones."""
    noise = {"aurora": NoiseSpec(0.1, 0.2, amplitude_damping=0.1)}
    generator = np.random.default_rng(4)
    for design in (Design(CUT.partition, CUT.assignment, gates(TWO_LAYERS)), CUT):
        model = QNN(design, 2, ModelSection(head="linear"), "ry", noise)
        angles, inputs = generator.uniform(-3, 3, (1, design.n_trainable)), generator.uniform(0, 3, (1, 2, 4))
        trained = Parameters(angles, generator.normal(size=(1, 10)))
        found = outages(model, trained, inputs, np.zeros((1, 2), int), inputs, [[0]])["borealis"]
        fragment = part_fragments(design, "ry")[0]
        names = {weight_symbol(index): angles[0, index] for index in fragment.weights}
        line = [cirq.LineQubit(qubit) for qubit in fragment.qubits]
        simulator = cirq.DensityMatrixSimulator(dtype=np.complex128)
        for row in range(2):
            circuit = cirq.resolve_parameters(
                noise["aurora"].noisy(fragment.circuit), names | {input_symbol(qubit): inputs[0, row, qubit] for qubit in fragment.qubits}
            )
            expected = simulator.simulate_expectation_values(circuit, [cirq.Z(qubit) for qubit in line], qubit_order=line)
            np.testing.assert_allclose(found.rest[0, row, :2], np.real(expected), atol=1e-5)


def test_angles_follow_their_gates_when_gates_are_lost() -> None:
    """Fewer gates may have another canonical order; every gate that is left keeps its own angle."""
    design = Design((0, 0, 1, 1), ("a", "b"), gates("rzz 1 2, rx 1, rx 0, ry 0, rx 0, ry 1, rzz 0 1, rx 2, rx 3, ry 3, rx 3"))
    left, kept = without_gates_to(design, {1})
    angles = np.random.default_rng(0).uniform(-3, 3, design.n_trainable)
    before, after = part_fragments(design, "ry")[0], part_fragments(left, "ry")[0]
    bound = [
        bind(fragment.circuit, {weight_symbol(index): values[index] for index in fragment.weights})
        for fragment, values in ((before, angles), (after, angles[kept]))
    ]
    names = {input_symbol(qubit): 0.3 + qubit for qubit in range(4)}
    unitaries = [cirq.unitary(cirq.resolve_parameters(circuit, names)) for circuit in bound]
    np.testing.assert_allclose(*unitaries, atol=1e-8)
    assert len(left.gates) == len(design.gates) - 1 and kept != sorted(kept)
