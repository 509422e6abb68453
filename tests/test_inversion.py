"""Inversion against planted truths: a gradient gives its row away, another row's gradient or none does not."""

from dataclasses import replace

import numpy as np
import pytest
from planted import named

from qumos_env.attacks.confidentiality import gradient_inversion, model_inversion
from qumos_env.attacks.confidentiality.class_means import class_means
from qumos_env.attacks.confidentiality.gradient_inversion import matched_errors
from qumos_env.attacks.confidentiality.gradient_matching import ARRIVED, GradientMap, invert
from qumos_env.attacks.confidentiality.model_inversion import invert_answers, search_representatives
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import contiguous, interleaved, ry_cz_ry
from qumos_env.design.circuits import joint_fragments
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.workload import Workload
from qumos_env.model.qnn import QNN
from qumos_env.model.training import Parameters, cross_entropy, one_hot
from qumos_env.scenario import load_scenario
from qumos_env.scenario.sections import ModelSection

RANGE = (0.0, np.pi)
EVERY = range(5)
REUPLOADED = Design(
    (0, 0, 0, 1, 1),
    ("aurora", "borealis"),
    (
        *(Gate("ry", (q,)) for q in EVERY),
        *(Gate("cz", (0, 1)), Gate("rzz", (1, 2)), Gate("cx", (3, 4)), Gate("reupload", (1,)), Gate("reupload", (4,))),
        *(Gate("rx", (q,)) for q in EVERY),
        *(Gate("cz", (1, 2)), Gate("rzz", (3, 4)), Gate("h", (0,))),
        *(Gate("ry", (q,)) for q in EVERY),
    ),
)


@pytest.fixture(scope="module")
def victim() -> Service:
    scenario = load_scenario("digits-theft")
    workload = Workload(scenario.model_copy(update={"draws": scenario.draws.model_copy(update={"count": 3})}))
    return Service.train(workload, ry_cz_ry(interleaved(8, 2), ["aurora", "borealis"], 2), seed=2)


def engine_gradients(model: QNN, parameters: Parameters, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Gradients ``[N, n_trainable]`` of single rows by the engines' adjoint method, every row as a model of its own."""
    every = Parameters(np.tile(parameters.angles, (len(inputs), 1)), np.tile(parameters.head, (len(inputs), 1)))
    values, tapes = model.stack.forward(every.angles, model.stack.encode(inputs[:, None]))
    slopes = cross_entropy(model.head.logits(every.head, values), targets[:, None])[1]
    return model.stack.backward(tapes, model.head.backward(every.head, values, slopes)[1], len(parameters.angles))


@pytest.mark.parametrize("head", ["scaled", "linear", "fixed"])
def test_gradients_agree_with_the_adjoint_method_and_their_slopes_with_finite_differences(head: str) -> None:
    model = QNN(REUPLOADED, 3, ModelSection(head=head), "ry")
    assert len(joint_fragments(REUPLOADED, "ry")) == 2
    generator = np.random.default_rng(0)
    parameters = Parameters.stack([model.initial((1, index)) for index in range(2)])
    inputs, targets = generator.uniform(*RANGE, (2, 4, 5)), one_hot(generator.integers(0, 3, (2, 4)), 3)
    gradient = GradientMap(model)
    found, jacobian = gradient.with_jacobian(parameters, inputs, targets)
    # Single precision: on three kinds of processor they are 3e-7 to 7e-7 apart.
    np.testing.assert_allclose(gradient.gradients(parameters, inputs, targets), found, atol=5e-6)
    for index in range(2):
        np.testing.assert_allclose(found[index], engine_gradients(model, parameters[index], inputs[index], targets[index]), atol=2e-5)
        for qubit in range(5):
            step = np.zeros(5)
            step[qubit] = 0.02
            ends = [engine_gradients(model, parameters[index], inputs[index] + sign * step, targets[index]) for sign in (1, -1)]
            np.testing.assert_allclose(jacobian[index, ..., qubit], (ends[0] - ends[1]) / 0.04, atol=4e-3)


def test_curvature_of_the_loss_agrees_with_finite_differences(victim: Service) -> None:
    generator = np.random.default_rng(3)
    head, parameters = victim.model.head, victim.trained
    values, targets = generator.uniform(-1, 1, (3, 1, 8)), one_hot(generator.integers(0, 4, (3, 1)), 4)

    def slope(z: np.ndarray) -> np.ndarray:
        return head.backward(parameters.head, z, cross_entropy(head.logits(parameters.head, z), targets)[1])[1]

    slopes, curvature = GradientMap(victim.model)._loss(parameters, values, targets)
    np.testing.assert_allclose(slopes, slope(values), atol=1e-12)
    for qubit in range(8):
        step = np.zeros(8)
        step[qubit] = 1e-5
        np.testing.assert_allclose(curvature[..., qubit], (slope(values + step) - slope(values - step)) / 2e-5, atol=1e-6)


@pytest.fixture(scope="module")
def overheard(victim: Service) -> dict[str, np.ndarray]:
    """Four training rows of every model, their gradients from the engines, and starts near the class means of the adversary's rows."""
    rows = np.stack([np.random.default_rng(index).permutation(draw.train)[:4] for index, draw in enumerate(victim.rows)])
    inputs, labels = victim.encode(rows), victim.labels[rows]
    targets = one_hot(labels, 4)
    start = [victim.model.initial((victim.seed, index)) for index in range(len(rows))]
    observed = np.stack([engine_gradients(victim.model, *one) for one in zip(start, inputs, targets, strict=True)])
    own = victim.together("thief")
    means = [class_means(angles, own_labels, 4) for angles, own_labels in zip(victim.encode(own), victim.labels[own], strict=True)]
    guess = np.stack([mean[label] for mean, label in zip(means, labels, strict=True)])[:, :, None]
    noise = np.random.default_rng(7).normal(0, 0.5, (4, *guess.shape))
    return {
        "inputs": inputs[:, :, None], "labels": labels, "targets": targets[:, :, None], "observed": observed,
        "guess": guess, "starts": np.clip(guess + noise, *RANGE),
    }  # fmt: skip


def initial(victim: Service) -> Parameters:
    return Parameters.stack([victim.model.initial((victim.seed, index)) for index in range(len(victim.rows))])


def test_the_gradient_of_a_row_gives_its_inputs_away(victim: Service, overheard: dict[str, np.ndarray]) -> None:
    """Gradients by the adjoint method, inverted by shifted circuits: most rows come back to a thousandth of a radian."""
    found = invert(GradientMap(victim.model), initial(victim), overheard["observed"], overheard["targets"], overheard["starts"], RANGE)
    errors = np.abs(found.inputs - overheard["inputs"]).max(axis=(2, 3))
    arrived = found.residual < ARRIVED
    assert arrived.mean() >= 0.8
    assert (errors[arrived] < 2e-3).mean() >= 0.9
    guessed = np.abs(overheard["guess"] - overheard["inputs"]).mean()
    assert np.abs(found.inputs - overheard["inputs"]).mean() < guessed / 4


@pytest.mark.parametrize("what", ["another row's", "nothing"])
def test_a_gradient_without_information_does_not_beat_the_guess(victim: Service, overheard: dict[str, np.ndarray], what: str) -> None:
    seen = np.roll(overheard["observed"], 1, axis=1) if what == "another row's" else np.zeros_like(overheard["observed"])
    found = invert(GradientMap(victim.model), initial(victim), seen, overheard["targets"], overheard["starts"], RANGE)
    guessed = np.abs(overheard["guess"] - overheard["inputs"]).mean()
    assert np.abs(found.inputs - overheard["inputs"]).mean() > 0.9 * guessed
    assert (found.inputs >= RANGE[0]).all() and (found.inputs <= RANGE[1]).all()


def test_a_feature_that_no_trained_gate_sees_stays_hidden() -> None:
    """Qubit 1 has no gate: its ⟨Z⟩ is cos x, so that x and −x are the same to every gradient. The range of the encoding decides."""
    design = Design((0, 0), ("aurora",), (Gate("ry", (0,)), Gate("rx", (0,)), Gate("ry", (0,))))
    gradient = GradientMap(QNN(design, 2, ModelSection(head="fixed"), "ry"))
    parameters = Parameters(np.array([[0.3, 0.9, -0.4]]), np.zeros((1, 0)))
    targets = np.array([[[1.0, 0.0], [1.0, 0.0]]])
    pair = gradient.gradients(parameters, np.array([[[0.7, 0.8], [0.7, -0.8]]]), targets)[0]
    np.testing.assert_allclose(pair[0], pair[1], atol=1e-6)


def test_rows_of_a_label_are_exchangeable_and_no_others() -> None:
    inputs = np.array([[0.0, 1.0], [2.0, 3.0]])
    same, different = np.array([1, 1]), np.array([0, 1])
    assert matched_errors(inputs[::-1], inputs, same).max() == 0
    assert matched_errors(inputs[::-1], inputs, different).min() == 2


def test_class_means_fall_back_to_the_mean() -> None:
    values = np.array([[0.0], [2.0], [7.0]])
    np.testing.assert_array_equal(class_means(values, np.array([0, 0, 2]), 3), [[1.0], [3.0], [7.0]])


def test_answers_that_hold_the_input_give_it_away_and_others_do_not() -> None:
    """Log-odds linear in the input are read off; answers of chance leave the mean."""
    generator = np.random.default_rng(0)
    features = generator.normal(0, 1, (300, 2))
    logits = np.concatenate([features @ [[1.0, 0.5], [0.2, -1.0]], np.zeros((300, 1))], axis=1)
    answers = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = invert_answers(answers[:200], features[:200], answers[200:])
    assert np.sqrt(np.mean((found - features[200:]) ** 2)) < 0.05
    blind = invert_answers(generator.dirichlet(np.ones(3), 200), features[:200], answers[200:])
    assert np.sqrt(np.mean((blind - features[200:]) ** 2)) > 0.9 * features[200:].std()


def test_search_finds_inputs_that_the_service_is_sure_of(victim: Service) -> None:
    found = named(model_inversion.run(victim).measurements)
    searched = found["typical input of a class, searched: its probability"]
    assert searched.interval.mean > 0.6
    assert searched.control_interval.mean == pytest.approx(0.25, abs=1e-6)
    weighted = found["typical input of a class, own rows weighted by answers: error (sd)"]
    assert (weighted.values < weighted.controls).all()
    label = found["input behind a label: error (sd)"]
    assert (label.values < label.controls).all()


def test_a_service_that_answers_nothing_leaks_no_class(victim: Service) -> None:
    """With a head of zeros all answers are alike: every reconstruction falls back to the guess."""
    mute = replace(victim, trained=Parameters(victim.trained.angles, np.zeros_like(victim.trained.head)))
    for name, measurement in named(model_inversion.run(mute).measurements).items():
        if "surest" in name or "searched" in name:
            assert (measurement.values >= measurement.controls - 0.02).all(), name
        else:
            np.testing.assert_allclose(measurement.values, measurement.controls, rtol=1e-3, err_msg=name)


def test_search_is_the_same_for_the_same_seed(victim: Service) -> None:
    own = victim.features[victim.together("score", 60)]
    np.testing.assert_array_equal(search_representatives(victim, own), search_representatives(victim, own))


def test_the_registered_attack_inverts_gradients_beside_its_guess(victim: Service) -> None:
    result = gradient_inversion.run(victim)
    found = named(result.measurements)
    alone, pair = found["batch of 1: mean error (rad)"], found["batch of 2: mean error (rad)"]
    assert alone.interval.mean < alone.control_interval.mean / 3
    assert alone.interval.mean <= pair.interval.mean < pair.control_interval.mean
    assert found["batch of 1: rows within 0.1 rad"].interval.mean > 0.7
    assert found["batch of 1: rows within 0.1 rad"].control_interval.mean < 0.1
    for measurement in result.measurements:
        assert measurement.values.shape == (3,)


def test_models_that_were_not_attacked_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = load_scenario("iris-smoke")
    monkeypatch.setattr(gradient_inversion, "MODELS", 1)
    trained = Service.train(Workload(scenario), ry_cz_ry(contiguous(4, 2), list(scenario.provider_names[:2]), 1), seed=3)
    for measurement in gradient_inversion.run(trained).measurements:
        assert np.isfinite(measurement.values).sum() == 1
        assert measurement.note.startswith("1 of ")
