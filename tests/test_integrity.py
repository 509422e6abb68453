"""Integrity attacks and their detector: faults against Cirq's simulators, and planted truths."""

import numpy as np
import pytest
from planted import decided_by_aurora, named
from scipy.stats import beta

from qumos_env.attacks.integrity import noisy_circuits as hardware
from qumos_env.attacks.integrity.canary_detector import detection_interval, faulty_scores, honest_scores, inspectors
from qumos_env.attacks.integrity.deviation import Deviation
from qumos_env.attacks.integrity.faults import (
    ANGLE_ERRORS,
    CROSSTALK,
    DROPPED_GATES,
    FLIPPED_RESULTS,
    SCALED_RESULTS,
    TAMPERING,
    WORSE_HARDWARE,
    ExposedCircuits,
    Fault,
)
from qumos_env.attacks.integrity.inspection import Protocol
from qumos_env.attacks.integrity.noisy_circuits import NoisyCircuits
from qumos_env.attacks.integrity.poisoning import FLIPS, poisoned_accuracies, poisoned_labels
from qumos_env.attacks.results import AttackResult
from qumos_env.attacks.suite import ATTACKS
from qumos_env.evaluation.service import Service
from qumos_env.simulation.channels import NoiseSpec

INTEGRITY = ("poisoning", "tampering", "crosstalk-faults", "worse-hardware", "canary-detector")


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return decided_by_aurora(tmp_path_factory.mktemp("data"))


# Poisoning


@pytest.mark.parametrize("flip", FLIPS)
def test_poisoned_rows_are_as_many_as_stated(flip: str, victim: Service) -> None:
    truth = victim.labels[victim.together("train")]
    changed = poisoned_labels(victim, flip, 0.1) != truth
    np.testing.assert_array_equal(changed.sum(axis=1), 10)
    np.testing.assert_array_equal(poisoned_labels(victim, flip, 0.0), truth)


def test_targeted_rows_are_the_targeted_ones(victim: Service) -> None:
    rows = victim.together("train")
    truth, probabilities = victim.labels[rows], victim.model.probabilities(victim.trained, victim.encode(rows))
    right = np.take_along_axis(probabilities, truth[..., None], axis=-1)[..., 0]
    assert not poisoned_labels(victim, "flips to one class", 0.2)[truth == 0].any()
    for flip, unsure in (("flips at the boundary", np.abs(right - 0.5)), ("flips of the surest rows", -right)):
        changed = poisoned_labels(victim, flip, 0.2) != truth
        for flips, order in zip(changed, unsure, strict=True):
            assert order[flips].max() <= order[~flips].min() + 1e-9


def test_poison_costs_accuracy_and_none_costs_nothing(victim: Service) -> None:
    truth = victim.labels[victim.together("train")]
    none, all_wrong = poisoned_accuracies(victim, np.stack([truth, 1 - truth]))
    np.testing.assert_array_equal(none, accuracy(victim))
    assert none.mean() > 0.9
    np.testing.assert_allclose(all_wrong, 1 - none, atol=0.1)


def accuracy(victim: Service) -> np.ndarray:
    return (victim.answer(victim.test, "0").argmax(axis=-1) == victim.labels[victim.test]).mean(axis=1)


# Tampering


@pytest.fixture(scope="module")
def service(victim: Service) -> Deviation:
    return Deviation(victim, victim.test)


@pytest.mark.parametrize("fault", [*TAMPERING, CROSSTALK], ids=lambda fault: fault.name)
def test_a_fault_of_no_strength_changes_nothing(fault: Fault, service: Deviation, victim: Service) -> None:
    for provider in ("aurora", "borealis"):
        np.testing.assert_array_equal(service.right(provider, fault, 0.0), service.right())
    np.testing.assert_array_equal(service.right().mean(axis=1), accuracy(victim))


def test_the_part_that_decides_everything_decides_everything(service: Deviation) -> None:
    honest = service.right().mean()
    assert honest > 0.9
    assert service.right("aurora", FLIPPED_RESULTS, 1.0).mean() < 1.2 - honest
    assert service.right("aurora", SCALED_RESULTS, 1.0).mean() < 0.65
    for fault in (FLIPPED_RESULTS, SCALED_RESULTS, ANGLE_ERRORS, DROPPED_GATES):
        assert service.right("borealis", fault, fault.reference).mean() > honest - 0.05


def test_worse_hardware_without_noise_is_the_honest_service(service: Deviation) -> None:
    none = NoisyCircuits(service.circuits, NoiseSpec())
    np.testing.assert_array_equal(service.on_hardware({"aurora": 10.0}, none), service.right())
    ruined = NoisyCircuits(service.circuits)
    assert service.on_hardware({"aurora": 1e6}, ruined).mean() < 0.65


# Canaries

QUICK = Protocol(calibration=300, honest=150, faulty=25)


@pytest.fixture(scope="module")
def noisy(victim: Service) -> NoisyCircuits:
    return NoisyCircuits(ExposedCircuits(victim.design, victim.model.axis))


def test_thresholds_are_conformal() -> None:
    statistics = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))
    assert Protocol(false_alarms=0.05).threshold(statistics) == 19
    assert Protocol(false_alarms=0.1).threshold(statistics) == 18
    assert Protocol(false_alarms=0.05).threshold(statistics[:18]) == np.inf


def test_detection_interval_is_exact() -> None:
    low, high = detection_interval(np.arange(40) < 36)
    assert (low, high) == pytest.approx((beta.ppf(0.025, 36, 5), beta.ppf(0.975, 37, 4)))


def test_honest_providers_raise_the_promised_rate_of_alarms(victim: Service, noisy: NoisyCircuits) -> None:
    """Both providers pooled, with the spread of the thresholds allowed for; a fault of no strength is alarmed at the same rate."""
    found, faulty = [], []
    for provider in ("aurora", "borealis"):
        team = inspectors(victim, provider, noisy, QUICK)
        found.append(honest_scores(team) > 1)
        faulty += [faulty_scores(team, fault, 0.0) > 1 for fault in (FLIPPED_RESULTS, ANGLE_ERRORS, WORSE_HARDWARE)]
    for alarms in (np.array(found), np.array(faulty)):
        low, high = detection_interval(alarms)
        assert low - 0.01 < QUICK.false_alarms < high + 0.01


def test_strong_faults_are_always_detected(victim: Service, noisy: NoisyCircuits) -> None:
    team = inspectors(victim, "aurora", noisy, QUICK)
    assert (faulty_scores(team, FLIPPED_RESULTS, 1.0) > 1).all()
    assert (faulty_scores(team, WORSE_HARDWARE, 10.0) > 1).all()
    assert (faulty_scores(team, CROSSTALK, 1.0) > 1).mean() > 0.8
    rates = [(faulty_scores(team, ANGLE_ERRORS, strength) > 1).mean() for strength in (0.0, 0.05, 0.8)]
    assert rates[0] < rates[1] < rates[2], "more of a fault is easier to see"


def test_chosen_canaries_show_more_than_random_ones(victim: Service, noisy: NoisyCircuits) -> None:
    chosen, plain = (
        np.mean([faulty_scores(inspectors(victim, one, noisy, QUICK, sensitive), ANGLE_ERRORS, 0.1) for one in ("aurora", "borealis")])
        for sensitive in (True, False)
    )
    assert chosen > 1.1 * plain, (chosen, plain)


def test_more_shots_see_more(victim: Service, noisy: NoisyCircuits) -> None:
    few, many = (
        np.mean(faulty_scores(inspectors(victim, "aurora", noisy, Protocol(shots=shots, faulty=15)), ANGLE_ERRORS, 0.05) > 1)
        for shots in (50, 5000)
    )
    assert few + 0.3 < many


# The registry


@pytest.fixture(scope="module")
def results(victim: Service) -> dict[str, AttackResult]:
    return {name: ATTACKS[name].run(victim) for name in INTEGRITY}


@pytest.mark.parametrize("name", INTEGRITY)
def test_every_attack_reports_one_value_per_model_beside_its_control(name: str, results: dict[str, AttackResult]) -> None:
    result = results[name]
    assert result.measurements and result.curves
    assert len({measurement.name for measurement in result.measurements}) == len(result.measurements)
    for measurement in result.measurements:
        assert measurement.values.shape == (4,)
        assert np.isfinite(measurement.values).all()
        assert measurement.control_interval.known


@pytest.mark.parametrize("name", ["tampering", "worse-hardware"])
def test_the_same_victim_gives_the_same_measurements(name: str, victim: Service, results: dict[str, AttackResult]) -> None:
    for one, other in zip(results[name].measurements, ATTACKS[name].run(victim).measurements, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.values, other.values)


def test_the_worst_case_is_that_of_the_deciding_provider(results: dict[str, AttackResult]) -> None:
    worst = named(results["tampering"].measurements)["worst: accuracy"]
    assert "aurora" in worst.note
    assert worst.gain.mean < -0.1


@pytest.mark.parametrize("name", ["worse-hardware", "canary-detector"])
def test_parts_too_wide_for_exact_noise_are_not_measured(
    name: str, victim: Service, results: dict[str, AttackResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {measurement.name for measurement in results[name].measurements}
    monkeypatch.setattr(hardware, "MAX_NOISY_QUBITS", 1)
    measurements = ATTACKS[name].run(victim).measurements
    assert measurements and {measurement.name for measurement in measurements} <= measured
    for measurement in measurements:
        assert np.isnan(measurement.values).all() and measurement.note.startswith("n/a")
