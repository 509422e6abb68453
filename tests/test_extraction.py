"""Black-box extraction against planted truths: a service that can be cloned is, and agreement without a victim is not cloning."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import huber, log_softmax

from qumos_env.attacks.confidentiality import extraction
from qumos_env.attacks.confidentiality.black_box import (
    ask,
    clone_model,
    ensemble,
    filtered,
    kernel_clone,
    query_rows,
    single,
    without_service,
)
from qumos_env.attacks.confidentiality.cloning import bootstrap_weights, fit_preprocessors, huber_loss
from qumos_env.attacks.confidentiality.extraction import METRICS, score, score_answers, score_on_test
from qumos_env.design.ansatz import contiguous, ry_cz_ry
from qumos_env.errors import QumosError
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.workload import Workload
from qumos_env.model.qnn import QNN
from qumos_env.model.training import Loss, Parameters, cross_entropy, one_hot
from qumos_env.scenario import load_scenario


@pytest.fixture(scope="module")
def workload() -> Workload:
    """Two curves: features are angles already, so that nothing but the model can go wrong in a clone."""
    scenario = load_scenario("two-curves-rational")
    fewer = scenario.draws.model_copy(update={"count": 3})
    longer = scenario.threat.model_copy(update={"steps": 160})
    return Workload(scenario.model_copy(update={"draws": fewer, "threat": longer}))


@pytest.fixture(scope="module")
def victim(workload: Workload) -> Service:
    """A service whose circuit is the clone's own."""
    model = ry_cz_ry((0, 1) * 4, ["aurora", "aurora"], 3)
    assert model.gates == clone_model(Service.train(workload, model, seed=5)).design.gates
    return Service.train(workload, model, seed=5)


@pytest.fixture(scope="module")
def untrained(victim: Service) -> Service:
    """A service with angles of chance: it answers, but knows nothing."""
    start = [victim.model.initial((9, index)) for index in range(len(victim.rows))]
    return replace(victim, trained=Parameters.stack(start))


@pytest.mark.parametrize("loss", [cross_entropy, huber_loss])
def test_slopes_are_the_derivatives_of_the_losses(loss: Loss) -> None:
    generator = np.random.default_rng(0)
    logits, targets = generator.normal(0, 3, (2, 4, 3)), one_hot(generator.integers(0, 3, (2, 4)), 3)
    slopes = loss(logits, targets)[1]
    for column in range(3):
        step = np.zeros(3)
        step[column] = 1e-5
        numeric = (loss(logits + step, targets)[0] - loss(logits - step, targets)[0]) / 2e-5
        np.testing.assert_allclose(slopes[..., column], numeric, atol=1e-8)


def test_losses_agree_with_scipy() -> None:
    generator = np.random.default_rng(1)
    logits, targets = generator.normal(0, 3, (5, 3)), generator.dirichlet([0.3] * 3, 5)
    logs = log_softmax(logits, axis=-1)
    np.testing.assert_allclose(cross_entropy(logits, targets)[0], -(targets * logs).sum(axis=-1))
    expected = huber(0.5, np.exp(logs) - targets).sum(axis=-1)
    assert (np.abs(np.exp(logs) - targets) > 0.5).any()
    np.testing.assert_allclose(huber_loss(logits, targets)[0], expected)


def test_equal_weights_train_as_the_owner_does(victim: Service) -> None:
    """With every row weighed alike, a clone of the owner's own rows is the owner's model."""
    rows = query_rows(victim, 12)
    model, inputs, keys = victim.model, victim.encode(rows), victim.keys("1")
    ours = model.train_towards(inputs, ask(victim, rows, "truth"), keys, steps=10, weights=np.full(rows.shape, 1 / 12))
    theirs = QNN(victim.design, 2, model.settings.model_copy(update={"steps": 10}), model.axis).train_many(
        inputs, victim.labels[rows], keys
    )
    np.testing.assert_allclose(ours.angles, theirs.angles, atol=1e-4)
    np.testing.assert_allclose(ours.head, theirs.head, atol=1e-4)


def test_a_row_of_weight_zero_is_not_there(victim: Service) -> None:
    rows = query_rows(victim, 12)
    inputs, targets, keys = victim.encode(rows), ask(victim, rows, "truth"), victim.keys("1")
    weights = np.where(np.arange(12) < 8, 1 / 8, np.zeros(rows.shape))
    masked = victim.model.train_towards(inputs, targets, keys, steps=5, weights=weights)
    short = victim.model.train_towards(inputs[:, :8], targets[:, :8], keys, steps=5)
    np.testing.assert_allclose(masked.angles, short.angles, atol=1e-4)


def test_bootstrap_draws_as_many_rows_as_there_are_and_leaves_a_third_out() -> None:
    weights = np.stack([bootstrap_weights(200, np.random.default_rng(seed)) for seed in range(20)])
    assert np.allclose(weights.sum(axis=1), 1)
    assert (weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.03)


def test_scores_count_by_hand() -> None:
    labels = np.array([[0, 0, 0, 0, 0, 0, 1, 1]])
    victims = one_hot(np.array([[1, 1, 1, 1, 1, 0, 1, 0]]), 2)
    clones = one_hot(np.array([[1, 1, 1, 0, 0, 0, 1, 1]]), 2)
    found = score(clones, victims, labels)
    assert found.accuracy == pytest.approx([5 / 8])
    assert found.agreement == pytest.approx([5 / 8])
    assert found.errors == pytest.approx([3 / 6])
    assert found.variation == pytest.approx([3 / 8])
    assert np.isnan(score(clones, one_hot(labels, 2), labels).errors).all()


def test_a_service_with_the_clones_own_circuit_is_cloned(victim: Service) -> None:
    """Far above the control, which has the true labels of the same rows and no victim, on the victim's errors above all."""
    clone = score_on_test(victim, single(victim, 400, "probabilities"))
    control = score_on_test(victim, single(victim, 400, "truth"))
    assert clone.agreement.mean() > 0.9
    assert clone.variation.mean() < 0.1
    assert clone.errors.mean() > control.errors.mean() + 0.2
    assert clone.agreement.mean() > control.agreement.mean() + 0.02


def test_an_ensemble_clones_as_well_and_grows_with_its_rounds(victim: Service) -> None:
    few, many = (score_on_test(victim, one).agreement.mean() for one in ensemble(victim, [20, 300], "probabilities", members=3))
    assert many > 0.93
    assert many > few + 0.05


def test_a_service_that_knows_nothing_gives_a_clone_that_knows_nothing(untrained: Service) -> None:
    """It repeats the service's errors, which a model of the true labels does not, and has no accuracy of its own."""
    clone = score_on_test(untrained, single(untrained, 400, "probabilities"))
    control = score_on_test(untrained, single(untrained, 400, "truth"))
    exact = untrained.model.probabilities(untrained.trained, untrained.encode(untrained.test))
    known = (exact.argmax(axis=-1) == untrained.labels[untrained.test]).mean()
    assert clone.errors.mean() > 0.85
    assert clone.errors.mean() > control.errors.mean() + 0.4
    assert clone.accuracy.mean() == pytest.approx(known, abs=0.08)
    assert control.accuracy.mean() > clone.accuracy.mean() + 0.15


def test_labels_and_kernel_machines_clone_too(victim: Service, untrained: Service) -> None:
    for service, level in ((victim, 0.88), (untrained, 0.75)):
        rows = query_rows(service, 400)
        assert score_on_test(service, single(service, 400, "labels")).agreement.mean() > level
        assert score_answers(service, kernel_clone(service, rows, ask(service, rows, "labels"))).agreement.mean() > 0.75


def test_a_kernel_clone_of_a_service_with_one_answer_gives_that_answer(victim: Service) -> None:
    rows = query_rows(victim, 10)
    assert (kernel_clone(victim, rows, one_hot(np.ones(rows.shape, int), 2)).argmax(axis=-1) == 1).all()


def test_without_the_service_nothing_of_its_answers_is_used(victim: Service, untrained: Service) -> None:
    """Whatever the service would have answered, the clone of an adversary who never asks is the same."""
    one, other = without_service(victim, 50), without_service(untrained, 50)
    np.testing.assert_array_equal(one.parameters.angles, other.parameters.angles)
    assert score_on_test(victim, one).agreement.mean() < score_on_test(victim, single(victim, 400, "probabilities")).agreement.mean() - 0.1


def test_labels_carry_no_confidence_and_probabilities_do(victim: Service) -> None:
    rows = query_rows(victim, 30)
    vectors, labels = ask(victim, rows, "probabilities"), ask(victim, rows, "labels")
    np.testing.assert_array_equal(labels.argmax(axis=-1), vectors.argmax(axis=-1))
    assert set(np.unique(labels)) == {0.0, 1.0}
    assert ((vectors > 0.01) & (vectors < 0.99)).any()
    np.testing.assert_array_equal(ask(victim, rows, "truth").argmax(axis=-1), victim.labels[rows])


def test_queries_are_held_out_rows_and_nested(victim: Service) -> None:
    rows = query_rows(victim, 60)
    np.testing.assert_array_equal(rows[:, :20], query_rows(victim, 20))
    for own, draw in zip(rows, victim.rows, strict=True):
        assert len(set(own)) == 60
        assert set(own) <= set(draw.score)
        assert not set(own) & (set(draw.test) | set(draw.train) | set(draw.thief) | set(draw.tuning))


@pytest.mark.parametrize("budget", [0, 1, -3, 10_000])
def test_an_impossible_budget_is_refused(victim: Service, budget: int) -> None:
    for attack in (single, filtered):
        with pytest.raises(QumosError, match=f"query budget is {budget}"):
            attack(victim, budget, "labels")
    with pytest.raises(QumosError):
        ensemble(victim, [budget], "labels")


def test_what_cannot_be_meant_is_refused(victim: Service) -> None:
    with pytest.raises(QumosError, match="did you mean labels"):
        ask(victim, query_rows(victim, 5), "label")  # type: ignore[arg-type]
    with pytest.raises(QumosError, match="ascending"):
        ensemble(victim, [60, 20], "labels")
    with pytest.raises(QumosError, match="at least 1 member"):
        ensemble(victim, [20], "labels", members=0)


def test_filtering_keeps_the_queries_whose_answer_holds(victim: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats are paid from the budget, and rows whose top-1 label changed get no weight."""
    noisy = replace(victim, model=QNN(replace(victim.design, shots=3), 2, victim.scenario.model, victim.scenario.data.axis))
    seen = {}

    def spy(model: QNN, inputs: np.ndarray, targets: np.ndarray, *_: object, weights: np.ndarray, **__: object) -> Parameters:
        seen["targets"], seen["weights"] = targets, weights
        return victim.trained

    monkeypatch.setattr(QNN, "train_towards", spy)
    filtered(noisy, 90, "labels")
    assert seen["weights"].shape == (3, 30)
    unanimous = seen["targets"].max(axis=-1) == 1
    assert 0.1 < unanimous.mean() < 0.9
    np.testing.assert_array_equal(seen["weights"] > 0, unanimous)


def test_preprocessing_needs_no_labels(victim: Service) -> None:
    """LDA takes the answers for classes; with one class only, or no service, PCA stands in."""
    section = victim.scenario.data.model_copy(update={"reducer": "lda"})
    pca = section.model_copy(update={"reducer": "pca"})
    rows = victim.features[query_rows(victim, 40)[:1]]
    answers = one_hot(np.zeros((1, 40), int), 2)
    for given in (answers, None):
        fitted = fit_preprocessors(rows, given, section, 8)[0]
        np.testing.assert_array_equal(fitted.matrix, fit_preprocessors(rows, None, pca, 8)[0].matrix)
    answers[0, :20] = [0, 1]
    assert np.count_nonzero(fit_preprocessors(rows, answers, section, 8)[0].matrix.any(axis=0)) == 1


def test_the_registered_attack_reports_every_metric_beside_its_control(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = load_scenario("iris-smoke")
    design = ry_cz_ry(contiguous(4, 2), list(scenario.provider_names[:2]), 1)
    monkeypatch.setattr(extraction, "BUDGETS", (10, 20, 500))
    trained = Service.train(Workload(scenario), design, seed=3)
    result = extraction.run(trained)
    names = [measurement.name for measurement in result.measurements]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert f"ensemble, 66 probabilities: {metric}" in names
    for measurement in result.measurements:
        assert measurement.values.shape == (len(trained.rows),)
        assert measurement.control is not None
        assert np.isfinite(measurement.values).all() or measurement.note
    assert all("repeats tell nothing" in measurement.note for measurement in result.measurements if "filtered" in measurement.name)
    assert {len(curve.x) for curve in result.curves} == {3}


def test_the_same_seed_clones_alike(victim: Service) -> None:
    for one, other in zip(ensemble(victim, [10, 20], "labels", 2), ensemble(victim, [10, 20], "labels", 2), strict=True):
        np.testing.assert_array_equal(one.parameters.angles, other.parameters.angles)
