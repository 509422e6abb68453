"""Membership inference against planted truths: memorised rows are found, unseen ones are not, and noise stays at its control."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import named
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from qumos_env.attacks.confidentiality import membership, membership_gray_box, membership_shadows
from qumos_env.attacks.confidentiality.member_scores import GUESS, balanced_split, per_model
from qumos_env.attacks.confidentiality.membership_shadows import shadow_attack
from qumos_env.attacks.confidentiality.membership_shots import shots_study
from qumos_env.attacks.confidentiality.qmu_protocol import qmu_protocol
from qumos_env.attacks.confidentiality.shadow_models import SHADOW_SCORES, Shadows, Signals, pair_jackknife, shadow_scores
from qumos_env.design import Design
from qumos_env.design.ansatz import contiguous, ry_cz_ry
from qumos_env.errors import QumosError
from qumos_env.evaluation.membership import (
    fit_gray_box,
    gray_box_features,
    gray_box_scores,
    label_probabilities,
    leave_pair_out,
    lira_offline,
    lira_online,
    loss_scores,
    rmia,
)
from qumos_env.evaluation.roc import auc
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.statistics import mean_interval
from qumos_env.evaluation.workload import Workload
from qumos_env.model.qnn import QNN
from qumos_env.scenario import Scenario, parse_scenario

FOUR_AND_FOUR = ry_cz_ry(contiguous(8, 2), ["aurora", "borealis"], 2)


def scenario_on(path: Path, **sections: dict[str, Any]) -> Scenario:
    """Eight features on eight qubits, twelve train rows in swapped pairs, a head that can memorise."""
    data: dict[str, Any] = {
        "name": "planted",
        "title": "planted",
        "data": {"source": str(path), "reducer": "none"},
        "draws": {"count": 16, "train_rows": 12, "thief_rows_per_class": 3, "tuning_rows": 10, "half_split": True},
        "design": {"qubits": 8, "max_parts": 2, "max_part_qubits": 4},
        "model": {"head": "linear", "steps": 250},
        "providers": [{"name": "aurora"}, {"name": "borealis"}],
    }
    for name, values in sections.items():
        data[name] = data.get(name, {}) | values
    return parse_scenario(data)


@pytest.fixture(scope="module")
def random_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels that have nothing to do with the features: all that can be learned is who was there."""
    generator = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("data") / "random.npz"
    np.savez(path, features=generator.uniform(-1, 1, (300, 8)), labels=generator.integers(0, 2, 300))
    return path


@pytest.fixture(scope="module")
def memorising(random_labels: Path) -> Service:
    """Sixteen models that learned random labels by heart."""
    return Service.train(Workload(scenario_on(random_labels)), FOUR_AND_FOUR, seed=3)


def halves(models: int, rows: int, generator: np.random.Generator) -> np.ndarray:
    first = np.argsort(generator.random((models // 2, rows)), axis=1) < rows // 2
    return np.stack([first, ~first], axis=1).reshape(models, rows)


def random_signals(seed: int, models: int = 16, rows: int = 60, effect: float = 0.0) -> Signals:
    """Rows and models of their own hardness, noise, and ``effect`` on the loss score of members."""
    generator = np.random.default_rng(seed)
    member = halves(models, rows, generator)
    of_models = generator.normal(size=(models, 1))
    losses = 2 * generator.normal(size=rows) + of_models + generator.normal(size=(models, rows)) + effect * member
    population = 2 * generator.normal(size=80) + of_models + generator.normal(size=(models, 80))
    return Signals(losses, 1 / (1 + np.exp(-losses)), 1 / (1 + np.exp(-population)), member)


def mean_auc(signals: Signals, score: Callable[[Signals, int, np.ndarray], np.ndarray]) -> float:
    pairs = zip(shadow_scores(signals, score), signals.member, strict=True)
    return float(np.mean([auc(one[inside], one[~inside]) for one, inside in pairs]))


# Scores on arrays


def test_loss_scores_are_exact_where_subtraction_would_cancel() -> None:
    tiny = 1e-20
    sure = np.array([[1 - tiny, tiny, tiny]])
    assert loss_scores(sure, np.array([0]))[0] == pytest.approx(-math.log(2e-20), rel=1e-12)
    many = np.random.default_rng(0).dirichlet(np.ones(3), (5, 7))
    labels = np.random.default_rng(1).integers(0, 3, 7)
    expected = [[math.log(p[y] / (sum(p) - p[y])) for p, y in zip(model, labels, strict=True)] for model in many.tolist()]
    np.testing.assert_allclose(loss_scores(many, labels), expected, rtol=1e-9)
    np.testing.assert_array_equal(label_probabilities(many, labels)[2], many[2][np.arange(7), labels])


def lira_by_loops(signals: Signals, target: int, others: np.ndarray, online: bool) -> list[float]:
    """LiRA as its paper describes it, row by row."""
    centres: dict[bool, list[float]] = {True: [], False: []}
    residuals: dict[bool, list[float]] = {True: [], False: []}
    for row in range(signals.losses.shape[1]):
        for side in (True, False):
            seen = [float(signals.losses[s, row]) for s in others if bool(signals.member[s, row]) is side]
            centres[side].append(float(np.median(seen)))
            residuals[side] += [value - centres[side][-1] for value in seen]
    spread = {side: math.sqrt(sum(r * r for r in residuals[side]) / len(residuals[side])) for side in (True, False)}
    found = []
    for row, value in enumerate(signals.losses[target]):
        out = norm(centres[False][row], spread[False])
        found.append(norm(centres[True][row], spread[True]).logpdf(value) - out.logpdf(value) if online else float(out.cdf(value)))
    return found


@pytest.mark.parametrize("online", [True, False])
def test_lira_is_that_of_a_plain_implementation(online: bool) -> None:
    signals = random_signals(0, models=8, rows=30, effect=1.0)
    for target, others in list(leave_pair_out(8))[:3]:
        expected = lira_by_loops(signals, target, others, online)
        score = lira_online if online else lira_offline
        found = score(signals.losses[target], signals.losses[others], signals.member[others])
        if online:
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        inside = signals.member[target]
        assert auc(found[inside], found[~inside]) == pytest.approx(roc_auc_score(inside, expected), abs=1e-6)


def test_offline_lira_does_not_saturate() -> None:
    shadow, member = np.zeros((4, 3)) + np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.zeros((4, 3), bool)
    found = lira_offline(np.array([20.0, 30.0, -20.0]), shadow, member)
    assert found[1] > found[0] > found[2] > 0


def test_rmia_is_the_share_of_population_rows_beaten() -> None:
    signals = random_signals(1, models=8, rows=30, effect=1.0)
    target, others, a = 2, np.array([0, 1, 4, 5, 6, 7]), 0.3
    population, sure = signals.population, signals.sure
    found = rmia(sure[target], sure[others], signals.member[others], population[target], population[others], a)
    for row in range(30):
        out = [sure[s, row] for s in others if not signals.member[s, row]]
        ratio = sure[target, row] / (((1 + a) * np.mean(out) + (1 - a)) / 2)
        beaten = 0
        for z in range(80):
            mean = np.mean([population[s, z] for s in others])
            beaten += ratio / (population[target, z] / (((1 + a) * mean + (1 - a)) / 2)) > 1
        assert int(found[row] * 81) == beaten
    order = np.argsort(found)
    outside = np.sum(sure[others] * ~signals.member[others], axis=0) / np.sum(~signals.member[others], axis=0)
    assert np.all(np.diff((sure[target] / ((1 + a) * outside + 1 - a))[order]) >= 0)


def test_scores_that_cannot_be_computed_are_refused() -> None:
    signals = random_signals(2, models=4, rows=6)
    everyone = np.ones((2, 6), bool)
    with pytest.raises(QumosError, match="row 0 trained every shadow model"):
        lira_offline(signals.losses[0], signals.losses[2:], everyone)
    with pytest.raises(QumosError, match="row 0 trained no shadow model"):
        lira_online(signals.losses[0], signals.losses[2:], ~everyone)
    with pytest.raises(QumosError, match=r"got \[5\], \[2, 6\], \[2, 6\]"):
        lira_offline(signals.losses[0, :5], signals.losses[2:], ~everyone)
    with pytest.raises(QumosError, match="population rows, got none"):
        rmia(signals.sure[0], signals.sure[2:], ~everyone, np.zeros(0), np.zeros((2, 0)))
    with pytest.raises(QumosError, match="offline_a is 2"):
        rmia(signals.sure[0], signals.sure[2:], ~everyone, signals.population[0], signals.population[2:], 2)


def test_a_table_that_looks_its_rows_up_is_found_out() -> None:
    """A model sure of the rows it holds and guessing on others, by the pure functions alone."""
    generator = np.random.default_rng(3)
    member = halves(16, 40, generator)
    sure = np.where(member, 0.9, 0.5) + generator.uniform(-0.05, 0.05, member.shape)
    population = 0.5 + generator.uniform(-0.05, 0.05, (16, 50))
    signals = Signals(np.log(sure / (1 - sure)), sure, population, member)
    for name, score in SHADOW_SCORES.items():
        assert mean_auc(signals, score) > 0.99, name


# What models that learned nothing give


@pytest.mark.parametrize("name", list(SHADOW_SCORES))
def test_noise_gives_one_half(name: str) -> None:
    found = [mean_auc(random_signals(seed, models=12, rows=40), SHADOW_SCORES[name]) for seed in range(50)]
    assert np.mean(found) == pytest.approx(0.5, abs=3.5 * np.std(found) / np.sqrt(len(found)))
    assert np.std(found) < 0.06


def test_a_twin_among_the_shadows_would_bias_noise() -> None:
    """The reason for leaving it out: members of the target lack one *in* model, non-members one *out* model."""
    found = []
    for seed in range(60):
        signals = random_signals(seed, models=8, rows=40)
        for target in range(8):
            others = np.flatnonzero(np.arange(8) != target)
            scores = lira_online(signals.losses[target], signals.losses[others], signals.member[others])
            inside = signals.member[target]
            found.append(auc(scores[inside], scores[~inside]))
    assert np.mean(found) < 0.48
    for target, others in leave_pair_out(8):
        assert target not in others and (target ^ 1) not in others
        counts = random_signals(0, models=8).member[others].sum(axis=0)
        assert set(counts.tolist()) == {3}


def test_the_jackknife_covers_one_half_where_the_spread_over_targets_does_not() -> None:
    def statistic(signals: Signals) -> np.ndarray:
        return np.array([mean_auc(signals, SHADOW_SCORES["LiRA online"])])

    covered, too_narrow = [], []
    for seed in range(25):
        signals = random_signals(seed, models=10, rows=30)
        values = pair_jackknife(signals, statistic)[:, 0]
        assert np.mean(values) == pytest.approx(statistic(signals)[0])
        found = mean_interval(values)
        covered.append(found.low <= 0.5 <= found.high)
        scores = shadow_scores(signals, SHADOW_SCORES["LiRA online"])
        plain = mean_interval(np.array([auc(one[inside], one[~inside]) for one, inside in zip(scores, signals.member, strict=True)]))
        too_narrow.append(not plain.low <= 0.5 <= plain.high)
    assert np.mean(covered) > 0.9
    assert np.mean(too_narrow) > 0.1
    assert len(pair_jackknife(random_signals(0, models=4), statistic)) == 1


def test_measurements_of_noise_hold_their_controls() -> None:
    result = shadow_attack(random_signals(5, rows=120))
    assert len(result.measurements) == 3 * len(SHADOW_SCORES) and len(result.curves) == len(SHADOW_SCORES)
    for measurement in result.measurements:
        if measurement.name.endswith("AUC"):
            assert measurement.control == GUESS
            assert measurement.interval.low <= 0.5 <= measurement.interval.high, measurement.name
        if "1 % FPR" in measurement.name and "0.1" not in measurement.name:
            assert (measurement.controls == 0.01).all() and measurement.interval.mean < 0.03
        if "0.1 % FPR" in measurement.name:
            assert not measurement.interval.known and "needs 1,000 non-member scores, there are 960" in measurement.note
    assert all(np.isnan(curve.y[0]) and curve.y[-1] == 1 for curve in result.curves)


def test_a_planted_effect_is_measured_with_its_low_false_positive_rates() -> None:
    measurements = named(shadow_attack(random_signals(6, rows=160, effect=3.0)).measurements)
    for name in SHADOW_SCORES:
        assert measurements[f"{name}: AUC"].interval.low > 0.7
        assert measurements[f"{name}: TPR at 1 % FPR"].interval.low > 0.05
    assert measurements["LiRA online: TPR at 0.1 % FPR"].interval.known


# Shadow models


def test_halves_are_balanced_stratified_and_those_of_the_draws(memorising: Service) -> None:
    protocol = memorising.workload.protocol
    found = protocol.balanced_halves(3, 20)
    assert np.all(found.member.sum(axis=0) == 10) and np.all(found.member.sum(axis=1) == 12)
    np.testing.assert_array_equal(found.member[::2], ~found.member[1::2])
    for half, draw in zip(found.member[:16], protocol.draws(3), strict=True):
        np.testing.assert_array_equal(found.pool[half], draw.train)
        np.testing.assert_array_equal(found.pool[~half], draw.nonmembers)
    labels = protocol.dataset.labels[found.pool]
    assert len({tuple(np.bincount(labels[half])) for half in found.member}) == 1
    assert not np.isin(found.pool, protocol.test).any()
    np.testing.assert_array_equal(np.union1d(found.pool, found.outside), protocol.rest)
    assert not np.array_equal(protocol.balanced_halves(4, 20).pool, found.pool)


@pytest.mark.parametrize(
    ("count", "rows", "message"),
    [
        (5, None, "number of halves is 5, an even number from 4"),
        (2, None, "number of halves is 2"),
        (16, 200, r"halves of 200 rows take \d+ of class .*, from 1 to \d+ can be had"),
        (16, 1, "take 0 of class"),
        (6, 2, "6 halves of 2 rows: a pool of 4 has fewer"),
    ],
)
def test_more_halves_than_the_data_supports_are_refused(memorising: Service, count: int, rows: int | None, message: str) -> None:
    with pytest.raises(QumosError, match=message):
        Shadows.train(memorising.workload, memorising.design, 3, count, rows)


def test_draws_that_double_as_shadows_are_not_trained_again(memorising: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(QNN, "train_many", refuse)
    shadows = Shadows.against(memorising)
    assert shadows.trained is memorising.trained
    for member, draw in zip(shadows.member, memorising.rows, strict=True):
        np.testing.assert_array_equal(shadows.pool[member], draw.train)
    np.testing.assert_allclose(
        shadows.answers(shadows.pool, "1")[2][shadows.member[2]], memorising.answer(memorising.together("train"), "1")[2], atol=1e-9
    )
    with pytest.raises(AssertionError, match="trained"):
        Shadows.against(memorising, 18)


def test_a_memorising_model_is_found_out(memorising: Service) -> None:
    """Random labels learned by heart: membership is all there is to know, and every attack knows it."""
    attacks = (membership_shadows, membership, membership_gray_box)
    found = named(one for attack in attacks for one in attack.run(memorising).measurements)
    for name in ("LiRA online: AUC", "loss: AUC"):
        assert found[name].interval.low > 0.75 and found[name].interval.high > 0.9, name
    # Fitted on six members and six others only.
    assert found["gray box: AUC"].interval.low > 0.7
    # Both see only models without the row, and RMIA probabilities that are all but 1 for members and easy non-members alike.
    assert found["LiRA offline: AUC"].interval.low > 0.8
    assert found["RMIA: AUC"].interval.low > 0.7
    assert found["gray box: balanced accuracy"].interval.low > 0.65


def test_newly_trained_shadows_find_a_memorising_model_too(random_labels: Path) -> None:
    scenario = scenario_on(random_labels, draws={"count": 2, "half_split": False})
    victim = Service.train(Workload(scenario), FOUR_AND_FOUR, seed=3)
    shadows = Shadows.against(victim, 8)
    assert len(shadows.member) == 8 and not np.isin(shadows.population, victim.workload.protocol.test).any()
    assert named(shadow_attack(shadows.signals()).measurements)["LiRA online: AUC"].interval.mean > 0.9
    with pytest.raises(QumosError, match="without half_split cannot serve"):
        Shadows.of(victim)


def test_rows_never_shown_give_one_half(memorising: Service) -> None:
    """The same models, asked about rows that none of them saw, half of them declared members at random."""
    shadows = Shadows.of(memorising)
    generator = np.random.default_rng(8)
    rows = generator.permutation(shadows.population)
    stranger = Shadows(
        shadows.workload,
        shadows.model,
        shadows.trained,
        shadows.preprocessors,
        shadows.keys,
        np.sort(rows[:100]),
        halves(16, 100, generator),
        rows[100:],
    )
    for measurement in shadow_attack(stranger.signals()).measurements:
        if measurement.name.endswith("AUC"):
            assert measurement.interval.low <= 0.5 <= measurement.interval.high, measurement.name
    fresh = np.stack([generator.permutation(rows) for _ in range(16)])
    for attack in (membership, membership_gray_box):
        for measurement in attack.run(memorising, fresh[:, :40], fresh[:, 40:80]).measurements:
            if measurement.control == GUESS:
                assert measurement.interval.low <= 0.5 <= measurement.interval.high, measurement.name


def test_members_among_the_non_members_are_refused(memorising: Service) -> None:
    members, others = memorising.together("train"), memorising.together("nonmembers").copy()
    others[4, 0] = members[4, 0]
    for attack in (membership, membership_gray_box):
        with pytest.raises(QumosError, match=rf"1 non-member row\(s\) of draw 4 are members of it, such as row {members[4, 0]}"):
            attack.run(memorising, members, others)
    shadows = Shadows.of(memorising)
    with pytest.raises(QumosError, match="population rows must not be rows of the pool"):
        Shadows(**{**vars(shadows), "population": shadows.pool})


# The gray box


def test_gray_box_features_and_what_the_classifier_learns() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    found = gray_box_features(probabilities, np.array([0, 1]))
    np.testing.assert_allclose(found, [[0.7, 0.2, 0.1, 0.7, 1, -math.log(0.7)], [0.1, 0.3, 0.6, 0.6, 0, -math.log(0.3)]])
    generator = np.random.default_rng(9)
    member = np.arange(200) < 100
    sure = np.where(member, 0.95, 0.6) + generator.uniform(-0.04, 0.04, 200)
    answers, labels = np.column_stack([sure, 1 - sure]), np.zeros(200, int)
    even = np.arange(200) % 2 == 0
    fitted = fit_gray_box(answers[even], labels[even], member[even], [1, 2])
    scores = gray_box_scores(fitted, answers[~even], labels[~even])
    assert auc(scores[member[~even]], scores[~member[~even]]) > 0.99
    again = gray_box_scores(fit_gray_box(answers[even], labels[even], member[even], [1, 2]), answers[~even], labels[~even])
    np.testing.assert_array_equal(scores, again)
    with pytest.raises(QumosError, match="both members and non-members"):
        fit_gray_box(answers[:50], labels[:50], member[:50], [1])


def test_rows_to_fit_on_and_to_score_on_are_disjoint_and_balanced() -> None:
    generator = np.random.default_rng(10)
    labels, member = generator.integers(0, 3, 200), generator.random(200) < 0.4
    fitted, scored = balanced_split(labels, member, 0.7, generator)
    assert len(np.intersect1d(fitted, scored)) == 0 and len(fitted) > 2 * len(scored) > 0
    for rows in (fitted, scored):
        for label in range(3):
            mine = rows[labels[rows] == label]
            assert 2 * member[mine].sum() == len(mine) == len(set(mine.tolist()))
    with pytest.raises(QumosError, match="two members and two non-members"):
        balanced_split(np.array([0, 0, 1]), np.array([True, False, True]), 0.5, generator)


# Measurements and studies


def test_pooled_thresholds_hold_over_all_models() -> None:
    generator = np.random.default_rng(11)
    members, others = generator.normal(1, 1, (20, 50)), generator.normal(0, 1, (20, 50))
    found = per_model(list(members), list(others))
    threshold = np.sort(others.ravel())[-10]
    np.testing.assert_allclose(found[:, 1], np.mean(members >= threshold, axis=1))
    assert np.isfinite(found).all() and found[3, 0] == pytest.approx(auc(members[3], others[3]))
    assert np.isnan(per_model(list(members[:19]), list(others[:19]))[:, 2]).all()


def test_loss_measurements_are_those_of_the_evaluation(memorising: Service) -> None:
    members, others = memorising.together("train"), memorising.together("nonmembers")
    inside, outside = memorising.answer(members, "1"), memorising.answer(others, "2")
    plain = [
        auc(loss_scores(inside[k], memorising.labels[members[k]]), loss_scores(outside[k], memorising.labels[others[k]])) for k in range(16)
    ]
    measurement = named(membership.run(memorising).measurements)["loss: AUC"]
    assert len(measurement.values) == 8
    np.testing.assert_allclose(measurement.values, np.reshape(plain, (8, 2)).mean(axis=1), atol=1e-12)


def test_the_published_recall_misleads_where_nothing_is_leaked(random_labels: Path) -> None:
    """A model of two steps has learned nothing: fitted rows are recalled, while held-out measurements stay at their controls."""
    scenario = scenario_on(random_labels, model={"steps": 2}, draws={"count": 8, "train_rows": 40})
    victim = Service.train(Workload(scenario), FOUR_AND_FOUR, seed=5)
    names = victim.workload.protocol.dataset.class_names
    measurements = named(qmu_protocol(victim, 1))
    published = measurements[f"published protocol: recall on members of class {names[1]}"]
    unseen = measurements[f"held out: recall on members of class {names[1]}"]
    assert published.interval.mean > unseen.interval.mean + 0.02
    area = measurements["held out: AUC, all classes"].interval
    assert area.low <= 0.5 <= area.high
    assert published.control is not None and "balanced accuracy" in " ".join(measurements)
    with pytest.raises(QumosError, match="class number is 2, from 0 to 1"):
        qmu_protocol(victim, 2)


def test_shots_study_tells_what_a_budget_buys(memorising: Service) -> None:
    seen: list[tuple[int, int]] = []
    table = shots_study(memorising, shots=(1, 50, None), repeats=(1, 8), on_progress=lambda done, total: seen.append((done, total)))
    assert [(row.shots, row.repeats) for row in table] == [(1, 1), (1, 8), (50, 1), (50, 8), (None, 1)]
    assert seen == [(done, 5) for done in range(1, 6)]
    areas = [row.auc.mean for row in table]
    exact = named(membership.run(memorising).measurements)["loss: AUC"].interval
    assert areas[-1] == pytest.approx(exact.mean, abs=1e-9)
    assert areas[0] < areas[1] < areas[-1] and areas[0] < areas[2] <= areas[3]
    again = shots_study(memorising, shots=(50,), repeats=(8,))  # the same seeds, whatever else is asked
    np.testing.assert_array_equal(again[0].aucs, table[3].aucs)
    np.testing.assert_array_equal(again[0].accuracies, table[3].accuracies)
    with pytest.raises(QumosError, match="shots is 0"):
        shots_study(memorising, shots=(0,))
    with pytest.raises(QumosError, match="repeats is 0"):
        shots_study(memorising, repeats=(0,))


def test_the_design_decides_the_shots_of_the_audit(memorising: Service) -> None:
    """Measurements of a design with shots are those of its noisy service, and repeat bit for bit."""
    design = Design(memorising.design.partition, memorising.design.assignment, memorising.design.gates, shots=2)
    noisy = Service.train(memorising.workload, design, 3)
    first, second = (named(membership_shadows.run(noisy).measurements) for _ in range(2))
    np.testing.assert_array_equal(first["LiRA online: AUC"].values, second["LiRA online: AUC"].values)
    exact = named(membership_shadows.run(memorising).measurements)["LiRA online: AUC"].interval.mean
    assert 0.5 < first["LiRA online: AUC"].interval.mean < exact
    scores = shadow_scores(Shadows.of(noisy).signals(), SHADOW_SCORES["RMIA"])
    member = Shadows.of(noisy).member
    assert auc(scores[member], scores[~member]) > 0.5
