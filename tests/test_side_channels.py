"""Side-channel models: nothing at strength 0, everything at strength 1, and only what the channel carries in between."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted import gates, named, planted_scenario
from sklearn.linear_model import LogisticRegression

from qumos_env.attacks.confidentiality import side_channels
from qumos_env.attacks.confidentiality.side_channels import (
    LEAKS,
    SHOTS,
    crosstalk,
    read_power_trace,
    residual_state,
    tenant_of,
    trace_theft,
)
from qumos_env.attacks.confidentiality.stealing import Scene
from qumos_env.attacks.results import Measurement
from qumos_env.design import Design
from qumos_env.errors import QumosError
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.workload import Workload

# ⟨Z⟩ of qubit 1 is the product of the cosines of twice the two angles, which no circuit that takes its inputs once can give.
DESIGN = Design((0, 0, 0, 1), ("aurora", "borealis"), gates("reupload 0, reupload 1, cx 0 1, rz 0, rz 0, ry 2, rx 0, rx 3"))
HELD = [gate for gate in DESIGN.gates if gate.qubits[0] != 3]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The label is whether one of features 0 and 1, but not both, is small; feature 3 is noise and all that borealis holds."""
    generator = np.random.default_rng(0)
    small = generator.integers(0, 2, (600, 4)).astype(bool)
    sizes = np.where(small, generator.uniform(0, 0.4, (600, 4)), generator.uniform(0.6, 1, (600, 4)))
    path: Path = tmp_path_factory.mktemp("data") / "rings.npz"
    np.savez(path, features=sizes * generator.choice([-1, 1], (600, 4)), labels=small[:, 0] ^ small[:, 1])
    return Service.train(Workload(planted_scenario(path)), DESIGN, seed=5)


@pytest.fixture(scope="module")
def measurements(victim: Service) -> dict[str, Measurement]:
    return named(side_channels.run(victim, (0.0, 0.2, 1.0)).measurements)


def test_registered_with_curves(victim: Service, measurements: dict[str, Measurement]) -> None:
    """A measurement per provider, channel and strength above 0, and curves from strength 0 on."""
    assert len(measurements) == 2 * 3 * 2
    curves = side_channels.run(victim, (0.0, 1.0)).curves
    assert len(curves) == 6 and {curve.name for curve in curves} == {"aurora", "borealis"}
    for curve in curves:
        channel = curve.plot.title.split(" by ")[1]
        measurement = measurements[f"{curve.name}, {channel}, strength 1: {curve.plot.y}"]
        if channel == "power trace":
            blind = trace_theft(Scene(victim), curve.name, 0.0).test
        else:
            blind = tenant_of(victim, curve.name).recovered(LEAKS[channel], 0.0)
        np.testing.assert_allclose(curve.y, [blind.mean(), measurement.interval.mean])


def test_a_full_trace_is_the_part(victim: Service) -> None:
    """Strength 1: every gate in order with its trained angle, every encoding."""
    trace = read_power_trace(victim, "aurora", 1.0)
    assert list(trace.design.gates) == HELD and trace.encoded.all()
    held = [number for number, gate in enumerate(gate for gate in DESIGN.gates if gate.trainable) if gate.qubits[0] != 3]
    np.testing.assert_array_equal(trace.angles, victim.trained.angles[:, held])


def test_an_empty_trace_is_empty(victim: Service) -> None:
    trace = read_power_trace(victim, "aurora", 0.0)
    assert trace.design.gates == () and trace.angles.shape == (4, 0) and not trace.encoded.any()


def test_a_trace_sees_one_provider_with_errors(victim: Service) -> None:
    """In between: gates of aurora's qubits only, more of them with more strength, angles off by about (1 − s)·π."""
    counts = []
    for strength in (0.2, 0.5, 0.8, 0.95):
        trace = read_power_trace(victim, "aurora", strength)
        assert {qubit for gate in trace.design.gates for qubit in gate.qubits} <= {0, 1, 2}
        assert trace.angles.shape == (4, trace.design.n_trainable)
        counts.append(len(trace.design.gates))
    assert counts == sorted(counts) and counts[0] < counts[-1]
    near = read_power_trace(victim, "aurora", 0.999)
    assert list(near.design.gates) == HELD
    # Equal gates that commute may be seen in either order, which is the same circuit.
    errors = np.abs(np.sort(near.angles, axis=1) - np.sort(read_power_trace(victim, "aurora", 1.0).angles, axis=1))
    assert 1e-5 < errors.mean() < 0.01


def test_misread_gates_keep_their_qubits(victim: Service) -> None:
    """At strength ½ some gates are of another kind, on the same qubits."""
    others = [replace(victim, seed=seed) for seed in range(10)]
    read = [gate for other in others for gate in read_power_trace(other, "aurora", 0.5).design.gates]
    true = {gate.qubits for gate in HELD}
    assert all(gate.qubits in true or gate.qubits[::-1] in true for gate in read)
    assert any(gate not in HELD for gate in read)


def test_a_full_trace_is_the_white_box_thief(victim: Service) -> None:
    scene = Scene(victim)
    for provider in ("aurora", "borealis"):
        outcome = scene.steal(scene.thief(provider), "fine-tune", "labels", use=f"power trace of {provider}")
        np.testing.assert_array_equal(trace_theft(scene, provider, 1.0).test, outcome.test)


def test_no_trace_tells_nothing_of_what_was_trained(victim: Service, measurements: dict[str, Measurement]) -> None:
    """At strength 0 the thief depends on nothing of the victim's; its control is the best without loot from the same rows."""
    base = trace_theft(Scene(victim), "aurora", 0.0).test
    best = victim.workload.control(victim.seed, "test").accuracies
    np.testing.assert_array_equal(measurements["aurora, power trace, strength 1: accuracy"].controls, best)
    other = Service.train(victim.workload, Design(DESIGN.partition, DESIGN.assignment, gates("ry 0, rx 3")), seed=5)
    np.testing.assert_array_equal(trace_theft(Scene(other), "aurora", 0.0).test, base)


def test_a_trace_is_worth_something_where_the_part_is(measurements: dict[str, Measurement]) -> None:
    """Aurora's part is the model; borealis' tells nothing at any strength."""
    assert measurements["aurora, power trace, strength 1: accuracy"].gain.low > 0.1
    for strength in ("0.2", "1"):
        interval = measurements[f"borealis, power trace, strength {strength}: accuracy"].interval
        assert interval.low - 0.03 < 0.5 < interval.high + 0.03


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_leaks_have_the_mean_and_spread_of_their_model(strength: float) -> None:
    """(1 − s) + s·⟨Z⟩ after a failed reset, s·⟨Z⟩ beside the victim, with binomial noise; oracle: sampled bits."""
    values = np.tile([-0.8, 0.0, 0.6], (4000, 1))
    for leak, mean in ((residual_state, 1 - strength + strength * values[0]), (crosstalk, strength * values[0])):
        found = leak(values, strength, 50, np.random.default_rng(0))
        spread = np.sqrt((1 - mean**2) / 50)
        np.testing.assert_array_less(np.abs(found.mean(axis=0) - mean), 5 * spread / np.sqrt(4000) + 1e-12)
        np.testing.assert_allclose(found.std(axis=0), spread, rtol=0.08, atol=1e-12)
    reset = residual_state(values, 0.0, 50, np.random.default_rng(0))
    np.testing.assert_array_equal(reset, 1)


def test_strengths_outside_are_refused(victim: Service) -> None:
    for strength in (-0.1, 1.5, float("nan")):
        with pytest.raises(QumosError, match="strength is"):
            residual_state(np.zeros((1, 1)), strength, 10, np.random.default_rng(0))
        with pytest.raises(QumosError, match="strength is"):
            read_power_trace(victim, "aurora", strength)


@pytest.mark.parametrize("channel", sorted(LEAKS))
def test_answers_leak_from_the_part_that_makes_them(measurements: dict[str, Measurement], channel: str) -> None:
    """Next to aurora nearly all answers, next to borealis none above the control; stronger is no worse."""
    weak, full = (measurements[f"aurora, {channel}, strength {strength}: answers recovered"] for strength in ("0.2", "1"))
    assert full.interval.mean > 0.9 and full.gain.low > 0.2
    assert weak.interval.mean <= full.interval.mean + 0.03
    for strength in ("0.2", "1"):
        gain = measurements[f"borealis, {channel}, strength {strength}: answers recovered"].gain
        assert gain.low - 0.05 < 0 < gain.high + 0.05


def test_the_control_is_the_commonest_answer(victim: Service, measurements: dict[str, Measurement]) -> None:
    """Of the tenant's own queries; what it reads at strength 0 is no better."""
    for name, channel in LEAKS.items():
        for provider in ("aurora", "borealis"):
            tenant = tenant_of(victim, provider)
            commonest = (tenant.own_answers.mean(axis=1) > 0.5).astype(int)  # two classes
            expected = (tenant.answers == commonest[:, None]).mean(axis=1)
            assert tenant.recovered(channel, 0.0).mean() <= expected.mean() + 0.05
            for strength in ("0.2", "1"):
                measurement = measurements[f"{provider}, {name}, strength {strength}: answers recovered"]
                np.testing.assert_array_equal(measurement.controls, expected)
            # Blind, a tenant knows no more than which answer is the commoner among its own.
            assert abs(expected.mean() - 0.5) < 0.12


def test_full_leakage_is_a_decoder_on_the_qubits_themselves(victim: Service) -> None:
    """Strength 1: what a logistic regression makes of the provider's own measured ⟨Z⟩."""
    tenant = tenant_of(victim, "aurora")
    qubits, rows = [0, 1, 2], victim.together("score", 100)
    stack, angles = victim.model.stack, victim.trained.angles
    own, others = (stack.readout(angles, victim.encode(asked))[..., qubits] for asked in (rows, victim.test))
    truth, answers = (victim.answer(asked, "9").argmax(axis=-1) for asked in (victim.test, rows))
    expected = []
    for k in range(4):
        decoder = LogisticRegression(C=1e3, max_iter=1000).fit(own[k], answers[k])
        expected.append(np.mean(decoder.predict(others[k]) == truth[k]))
    assert tenant.shots == SHOTS
    for channel in LEAKS.values():
        np.testing.assert_allclose(tenant.recovered(channel, 1.0), expected, atol=0.06)


def test_one_seed_one_result(victim: Service, measurements: dict[str, Measurement]) -> None:
    for measurement in side_channels.run(victim, (0.2, 1.0)).measurements:
        np.testing.assert_array_equal(measurement.values, measurements[measurement.name].values)
