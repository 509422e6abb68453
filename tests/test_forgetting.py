"""What tells forgetting from hiding: the mask, relearning, traces, the signed loss gap; and the mechanisms that train."""

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from planted import gates, planted_scenario
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from test_unlearning import DESIGN, tiny

from qumos_env.design import Design
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.statistics import Interval
from qumos_env.evaluation.workload import Workload
from qumos_env.model.qnn import QNN
from qumos_env.model.training import Parameters
from qumos_env.unlearning import MECHANISMS, Unlearned, UnlearningReport, Withdrawal, mechanism, unlearn, withdraw_class, withdraw_random
from qumos_env.unlearning.mask import mask_levels, masked
from qumos_env.unlearning.measurement import COLUMNS, STARTS, Measured, measure
from qumos_env.unlearning.mechanisms import influence, reset, retrain
from qumos_env.unlearning.mechanisms.distillation import teacher
from qumos_env.unlearning.mechanisms.registry import train_on
from qumos_env.unlearning.mechanisms.rows import logit_gradients
from qumos_env.unlearning.relearning import RELEARNING_ROWS, relearn, relearning_rows
from qumos_env.unlearning.report import CRITERIA, summarise
from qumos_env.unlearning.traces import trace_auc

HIDDEN = 1  # class_1
PRODUCT = "ry 0, ry 1, ry 2, cz 0 1, cz 1 2, ry 0, ry 1, ry 2, cz 0 1, cz 1 2, ry 0, ry 1, ry 2, ry 3"


@pytest.fixture(scope="module")
def service() -> Service:
    return Service.train(Workload(tiny()), DESIGN, seed=7)


@pytest.fixture(scope="module")
def task(service: Service) -> Withdrawal:
    return withdraw_class(service, "class_1")


@pytest.fixture(scope="module")
def few(service: Service) -> Withdrawal:
    return withdraw_random(service, 6)


def silenced(task: Withdrawal) -> Service:
    """The model with a bias that silences the class, and nothing else."""
    head = task.service.trained.head.copy()
    head[:, HIDDEN - task.service.n_classes] -= 30.0  # the biases come last
    return replace(task.service, trained=Parameters(task.service.trained.angles, head))


# The mask


def test_a_mask_hides_the_class_and_nothing_else(task: Withdrawal, few: Withdrawal) -> None:
    """The class gets what retained rows get in the geometric mean; the others keep their ratios; without a whole class nothing changes."""
    answers = task.model.probabilities(task.service.trained, task.inputs)
    levels = mask_levels(task)
    found = masked(answers, levels)
    for index in range(4):
        kept = answers[index][~task.forget[index]]
        assert np.isnan(levels[index][[0, 2]]).all()
        np.testing.assert_allclose(found[index][:, HIDDEN], np.exp(np.log(kept[:, HIDDEN]).mean()))
    np.testing.assert_allclose(found.sum(axis=-1), 1)
    np.testing.assert_allclose(found[..., 0] / found[..., 2], answers[..., 0] / answers[..., 2])
    np.testing.assert_allclose(masked(answers, mask_levels(few)), answers)


# Relearning


def test_the_relearner_has_few_rows_and_is_scored_on_others(task: Withdrawal, few: Withdrawal) -> None:
    """Three of every class, of a class that lost rows withdrawn ones and at most half of them."""
    for one in (task, few):
        chosen = relearning_rows(one)
        for index in range(4):
            for name in range(3):
                mine = (one.labels[index] == name) & chosen[index]
                gone = (one.labels[index] == name) & one.forget[index]
                assert not gone.any() or not (mine & ~gone).any()
                assert mine.sum() == (min(RELEARNING_ROWS, gone.sum() // 2) if gone.any() else RELEARNING_ROWS)


def test_relearning_starts_from_centred_logits_and_learns(task: Withdrawal) -> None:
    """Before the first step the mean log-probability of every class over the rows is subtracted; the steps lower the loss on them."""
    chosen = relearning_rows(task)
    found = relearn(task.service, task.train, chosen)
    assert found.shape == (11, *task.labels.shape, 3)
    logs = np.log(task.model.probabilities(task.service.trained, task.inputs))
    for index in range(4):
        centred = np.exp(logs[index] - logs[index][chosen[index]].mean(axis=0))
        np.testing.assert_allclose(found[0, index], centred / centred.sum(axis=1, keepdims=True), rtol=1e-6)
    sure = np.log(np.take_along_axis(found, np.broadcast_to(task.labels[..., None], (11, *task.labels.shape, 1)), axis=-1)[..., 0])
    assert (sure[-1][chosen].reshape(4, -1).mean(axis=1) > sure[0][chosen].reshape(4, -1).mean(axis=1)).all()


def test_a_bias_that_silences_a_class_is_no_obstacle(task: Withdrawal) -> None:
    """Planted hiding: ten plain steps do not bring the class back, whoever centres first has it as if nothing had been done."""
    hidden, chosen = silenced(task), relearning_rows(task)
    plain = train_on(task, hidden.trained, np.eye(3)[task.labels], chosen / chosen.sum(axis=1, keepdims=True), 10)
    for parameters in (hidden.trained, plain):
        assert not (task.model.probabilities(parameters, task.inputs).argmax(axis=-1) == HIDDEN).any()
    found = relearn(hidden, task.train, chosen)
    assert (found[-1].argmax(axis=-1) == HIDDEN).any(axis=1).all()
    # The first steps alone: rounding grows with every step.
    np.testing.assert_allclose(found[:4], relearn(task.service, task.train, chosen)[:4], atol=1e-3)


# Traces


def naive_trace(candidates: np.ndarray, retrained: np.ndarray) -> float:
    """LiRA online with one variance for all rows, by loops, and scikit-learn's AUC."""
    starts, rows = candidates.shape
    truth, scores = [], []
    for left_out in range(starts):
        others = [start for start in range(starts) if start != left_out]
        centres, spreads = [], []
        for kind in (candidates, retrained):
            middle = [np.median([kind[start, row] for start in others]) for row in range(rows)]
            centres.append(middle)
            spreads.append(np.sqrt(np.mean([(kind[start, row] - middle[row]) ** 2 for start in others for row in range(rows)])))
        for member, kind in ((1, candidates), (0, retrained)):
            for row in range(rows):
                value = kind[left_out, row]
                truth.append(member)
                scores.append(norm.logpdf(value, centres[0][row], spreads[0]) - norm.logpdf(value, centres[1][row], spreads[1]))
    return float(roc_auc_score(truth, scores))


def test_the_trace_test_is_lira_and_its_auc_that_of_scikit_learn() -> None:
    """On planted losses: of two models one remembers every row by itself, the other nothing; identical models score ½."""
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 2, (2, 30))
    retrained = hard + generator.normal(0, 0.5, (6, 2, 30))
    memory = np.stack([generator.uniform(0.5, 1.5, 30), np.zeros(30)])
    candidates = hard + memory + generator.normal(0, 0.5, (6, 2, 30))
    rows = np.ones((2, 30), bool)
    rows[:, 20:] = False
    found = trace_auc(candidates, retrained, rows)
    expected = [naive_trace(candidates[:, model, :20], retrained[:, model, :20]) for model in range(2)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found[0] > 0.8 and abs(found[1] - 0.5) < 0.1
    np.testing.assert_array_equal(trace_auc(retrained, retrained, rows), 0.5)


# The report


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, UnlearningReport]]:
    """Two mechanisms of which the truth is known: one hides and forgets nothing, one is exact.

    The withdrawn class is where features 1 and 2 have one sign, elsewhere feature 0 decides: a model that never saw the class has no
    use for a product of two features.
    """
    generator = np.random.default_rng(0)
    features = generator.uniform(0.3, 1, (600, 4)) * generator.choice([-1, 1], (600, 4))
    labels = np.where(features[:, 1] * features[:, 2] > 0, HIDDEN, np.where(features[:, 0] > 0, 0, 2))
    path = tmp_path_factory.mktemp("data") / "product.npz"
    np.savez(path, features=features, labels=labels)
    scenario = planted_scenario(path, draws={"count": 8, "tuning_rows": 30}, model={"head": "linear", "steps": 80})
    design = Design((0, 0, 0, 1), ("aurora", "borealis"), gates(PRODUCT))
    task = withdraw_class(Service.train(Workload(scenario), design, seed=0), str(HIDDEN))

    @mechanism("hide")
    def hide(one: Withdrawal) -> Unlearned:
        return Unlearned(silenced(one), np.zeros(len(one.forget)))

    @mechanism("elsewhere")
    def elsewhere(one: Withdrawal) -> Unlearned:
        return retrain(replace(one, start=100 + one.start))

    try:
        found = measure(task, ["hide", "elsewhere", "retrain"])
        yield {name: summarise([one]) for name, one in found.items()}
    finally:
        del MECHANISMS["hide"], MECHANISMS["elsewhere"]


def test_hiding_is_exposed_and_exact_unlearning_passes(planted: dict[str, UnlearningReport]) -> None:
    """By the speed of relearning and by the traces; exact unlearning is nearer than the mask in everything, hiding is not.

    Measured: speeds .93 of the hidden and .50 of retrained models, AUCs .96 and more against .41 to .55.
    """
    hidden, exact = planted["hide"], planted["elsewhere"]
    speed = hidden.figure("relearning speed")
    assert hidden.figure("forget accuracy").after.mean == 0
    # The mask is lifted by the relearner, so that both are the original.
    assert speed.after.mean == pytest.approx(speed.mask.mean, abs=0.02) == pytest.approx(speed.before.mean, abs=0.02)
    assert speed.after.low > speed.retrained.high
    assert abs(exact.figure("relearning speed").after.mean - speed.retrained.mean) < 0.15
    for name in ("trace AUC", "relearned trace AUC"):
        for one in (hidden.figure(name).after, hidden.figure("relearned trace AUC").mask):
            assert one.mean > 0.8
        for one in (exact.figure(name).after, hidden.figure(name).retrained):
            assert abs(one.mean - 0.5) < 0.15
    assert all(exact.over_mask[name].mean > 0 for name in CRITERIA)
    assert hidden.beats_mask is False and hidden.over_mask["relearned trace AUC"].mean == pytest.approx(0, abs=0.02)


def test_a_mask_is_beaten_in_all_criteria_or_not_at_all(planted: dict[str, UnlearningReport]) -> None:
    """Beyond the interval where there is one; and not by showing membership."""
    report = planted["retrain"]
    better = dict.fromkeys((*CRITERIA, "LiRA AUC"), Interval(0.1, 0.05, 0.15))
    assert replace(report, over_mask=better).beats_mask
    assert replace(report, over_mask=dict.fromkeys(better, Interval(0.1, np.nan, np.nan))).beats_mask
    doubtful, worse = Interval(0.1, -0.05, 0.25), Interval(-0.1, -0.15, -0.05)
    for name in CRITERIA:
        for one in (doubtful, worse, Interval(-0.1, np.nan, np.nan)):
            assert replace(report, over_mask=better | {name: one}).behind_mask == (name,)
    assert replace(report, over_mask=better | {"LiRA AUC": doubtful}).beats_mask
    assert replace(report, over_mask=better | {"LiRA AUC": worse}).behind_mask == ("LiRA AUC",)


def test_a_model_is_not_compared_with_itself(planted: dict[str, UnlearningReport]) -> None:
    """Its like from another start stands in: the loss gap of an original is about 0, and far from that of what has forgotten."""
    report = planted["retrain"]
    gap, distance = report.figure("loss gap"), report.figure("forget total variation")
    assert gap.before.mean != 0 and abs(gap.before.mean) < 0.1 < 1 < gap.retrained.low
    assert distance.after.mean == 0 < distance.retrained.mean < distance.mask.mean
    assert report.figure("trace AUC").after.mean == 0.5 != report.figure("trace AUC").retrained.mean
    steps = report.figure("gradient steps")
    assert (steps.before.mean, steps.mask.mean) == (80, 0) and steps.after.mean == steps.retrained.mean < 80


def test_the_report_says_what_it_cannot_say(few: Withdrawal) -> None:
    """Random rows have no mask, single rows none to relearn from; both are null in JSON, and no figure lacks a column."""
    report = summarise([measure(few, ["influence"])["influence"]])
    assert report.beats_mask is None and not any("mask" in note for note in report.notes)
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["beats_mask"] is None and set(found["over_mask"]) == set(found["gains"]) >= set(CRITERIA)
    for figure in found["figures"]:
        assert set(figure) == {"name", *COLUMNS} and figure["mask"]["mean"] is None
    one = summarise([measure(withdraw_random(few.service, 1), ["ga"])["ga"]])
    assert not one.figure("relearning speed").after.known and any("to relearn from" in note for note in one.notes)
    assert one.figure("loss gap").retrained.known


def test_the_signed_gap_and_the_calibrated_auc_are_those_of_the_models(few: Withdrawal) -> None:
    """From public answers: losses by hand, medians over retrained models from other starts, scikit-learn's AUC within classes."""
    whole = withdraw_class(few.service, "class_1")
    found: Measured = measure(whole, ["finetune"])["finetune"]
    fresh = whole.service.together("score")

    def odds(service: Service, rows: np.ndarray) -> np.ndarray:
        answers = service.model.probabilities(service.trained, service.encode(rows))
        right = np.take_along_axis(answers, service.labels[rows][..., None], axis=-1)[..., 0]
        return np.log(right) - np.log1p(-right)

    shadows = [retrain(whole.from_start(start)).service for start in range(1, STARTS)]
    models = (whole.service, None, found.after, retrain(whole).service)
    for column, model in enumerate(models):
        if model is None:
            continue
        for index in range(4):
            mine, theirs = whole.forget[index], few.service.labels[fresh[index]] == HIDDEN
            losses = [np.log1p(np.exp(-odds(one, whole.train)[index][mine])).mean() for one in (model, whole.service)]
            if column:
                assert found.figures["loss gap"][column, index] == pytest.approx(losses[0] - losses[1], abs=1e-6)
            if column < 3:
                scores = []
                for rows, chosen in ((whole.train, mine), (fresh, theirs)):
                    usual = np.median([odds(one, rows)[index][chosen] for one in shadows], axis=0)
                    scores.append(odds(model, rows)[index][chosen] - usual)
                truth = np.repeat([1, 0], [len(scores[0]), len(scores[1])])
                expected = roc_auc_score(truth, np.concatenate(scores))
                assert found.figures["LiRA AUC"][column, index] == pytest.approx(expected, abs=1e-9)
    # Behind the mask, all rows of the class get one probability.
    own = [np.log1p(np.exp(-odds(whole.service, whole.train)[index][whole.forget[index]])).mean() for index in range(4)]
    np.testing.assert_allclose(found.figures["loss gap"][1], -np.log(mask_levels(whole)[:, HIDDEN]) - own, atol=1e-6)
    np.testing.assert_array_equal(found.figures["membership AUC"][1], 0.5)
    other = whole.from_start(1)
    gap = [np.log1p(np.exp(-odds(one, whole.train)[0][whole.forget[0]])).mean() for one in (other.service, whole.service)]
    assert found.figures["loss gap"][0, 0] == pytest.approx(gap[0] - gap[1], abs=1e-6)


# The mechanisms that train


def test_short_retraining_is_a_plain_training_without_the_rows(few: Withdrawal) -> None:
    """Of fewer steps at a higher rate, on a data set that never had them."""
    service = few.service
    kept = np.stack([rows[~gone] for rows, gone in zip(few.train, few.forget, strict=True)])
    owners = [service.workload.owner(rows) for rows in kept]
    inputs = np.stack([owner.transform(service.features[rows]) for owner, rows in zip(owners, kept, strict=True)])
    settings = service.scenario.model.model_copy(update={"steps": 15, "learning_rate": 0.2})
    expected = QNN(DESIGN, 3, settings, "ry").train_many(inputs, service.labels[kept], few.keys)
    found = unlearn(few, "short")
    answers = found.service.model.probabilities(found.service.trained, found.service.encode(kept))
    np.testing.assert_allclose(answers, service.model.probabilities(expected, inputs), atol=1e-5)
    np.testing.assert_allclose(found.steps, 15 * 30 / 36)


def test_fine_tuning_and_resetting_start_where_they_say(few: Withdrawal) -> None:
    """A reset of all angles is a training from the initial ones, behind the old preprocessing; of none, of the head alone."""
    model, n_angles = few.model, DESIGN.n_trainable
    kept = [np.flatnonzero(~gone) for gone in few.forget]
    inputs, labels = (np.stack([one[rows] for one, rows in zip(every, kept, strict=True)]) for every in (few.inputs, few.labels))
    quick = QNN(DESIGN, 3, few.service.scenario.model.model_copy(update={"steps": 8}), "ry")
    found = reset(few, angles=1.0)
    expected = quick.train_many(inputs, labels, few.keys)
    np.testing.assert_allclose(model.probabilities(found.service.trained, inputs), model.probabilities(expected, inputs), atol=1e-5)
    np.testing.assert_allclose(found.steps, 8 * 30 / 36 + 1)
    # No step at all would leave the tuned model where it is; one at a vanishing rate shows the start.
    still = few.service.scenario.model.model_copy(update={"steps": 4, "learning_rate": 1e-9})
    frozen = replace(few, service=replace(few.service, model=QNN(DESIGN, 3, still, "ry")))
    initial = Parameters.stack([model.initial(key) for key in few.keys])
    for name, head in (("finetune", few.service.trained.head), ("reset", initial.head)):
        start = unlearn(frozen, name).service.trained
        np.testing.assert_allclose(start.head, head, atol=1e-6)
        moved = np.abs(start.angles - few.service.trained.angles) > 1e-6
        back = np.abs(start.angles - initial.angles) < 1e-6
        assert (moved.sum(axis=1) <= (round(n_angles / 2) if name == "reset" else 0)).all() and (back | ~moved).all()
        assert moved.any() == (name == "reset")


def test_the_teacher_never_saw_the_rows(task: Withdrawal, few: Withdrawal) -> None:
    """Retained rows keep their labels; withdrawn ones get scikit-learn's answer, which never is a withdrawn class."""
    for one in (task, few):
        found = teacher(one)
        for index, gone in enumerate(one.forget):
            np.testing.assert_array_equal(found[index][~gone], np.eye(3)[one.labels[index][~gone]])
            fitted = LogisticRegression(max_iter=1000).fit(one.inputs[index][~gone], one.labels[index][~gone])
            np.testing.assert_allclose(found[index][gone][:, fitted.classes_], fitted.predict_proba(one.inputs[index][gone]))
        np.testing.assert_allclose(found.sum(axis=-1), 1)
    assert not teacher(task)[task.forget][:, HIDDEN].any()


def test_distillation_goes_to_the_teacher(task: Withdrawal) -> None:
    """On the withdrawn rows every model is nearer to its answers than it was, and the class is gone."""
    wanted, after = teacher(task), unlearn(task, "distill").service
    far = []
    for service in (task.service, after):
        answers = service.model.probabilities(service.trained, task.inputs)
        far.append([np.abs(answers - wanted)[index][gone].sum(axis=1).mean() for index, gone in enumerate(task.forget)])
    assert (np.array(far[1]) < np.array(far[0]) - 0.3).all()


def test_logit_gradients_are_those_of_single_rows(few: Withdrawal) -> None:
    """Against central differences of the log-odds between classes, for an angle and a head parameter."""
    values, n_angles, step = few.values, DESIGN.n_trainable, 1e-2
    found = logit_gradients(few, values)
    for parameter in (0, n_angles - 1, n_angles, values.shape[1] - 1):
        shifted = []
        for sign in (1, -1):
            moved = values.copy()
            moved[:, parameter] += sign * step
            answers = few.model.probabilities(Parameters(moved[:, :n_angles], moved[:, n_angles:]), few.inputs)
            shifted.append(np.log(answers[..., 1:] / answers[..., :1]))
        slope = found[..., 1:, parameter] - found[..., :1, parameter]
        np.testing.assert_allclose(slope, (shifted[0] - shifted[1]) / (2 * step), atol=2e-3, rtol=1e-2)


def test_an_influence_step_is_newtons_where_the_loss_is_convex(few: Withdrawal) -> None:
    """Without angles the model is a logistic regression: against its Hessian and gradients by central differences."""
    fixed = QNN(
        Design(DESIGN.partition, DESIGN.assignment, gates("cz 0 2, cz 1 3")),
        3,
        few.model.settings.model_copy(update={"head": "linear"}),
        "ry",
    )
    service = replace(few.service, model=fixed, trained=fixed.train_many(few.inputs, few.labels, few.keys))
    task = replace(few, service=service)
    damping, step = 0.05, 1e-3

    def loss(head: np.ndarray, index: int, rows: np.ndarray) -> float:
        found = Parameters(service.trained.angles[index], head)
        answers = fixed.probabilities(found, task.inputs[index][rows])
        return float(-np.log(answers[np.arange(len(answers)), task.labels[index][rows]]).mean())

    found = influence(task, damping).service.trained.head
    for index in range(2):
        head, kept = service.trained.head[index], np.flatnonzero(~task.forget[index])
        axes = step * np.eye(len(head))

        def slope(at: np.ndarray, rows: np.ndarray, index: int = index, axes: np.ndarray = axes) -> np.ndarray:
            return np.array([(loss(at + axis, index, rows) - loss(at - axis, index, rows)) / (2 * step) for axis in axes])

        hessian = np.array([(slope(head + axis, kept) - slope(head - axis, kept)) / (2 * step) for axis in axes])
        change = slope(head, kept) - slope(head, np.arange(len(task.labels[index])))
        expected = head - np.linalg.solve(hessian + damping * np.eye(len(head)), change)
        np.testing.assert_allclose(found[index], expected, atol=1e-3)
        assert np.abs(expected - head).max() > 0.01


def test_influence_raises_the_loss_of_the_rows_alone(few: Withdrawal) -> None:
    """Of the withdrawn rows by some tenths, of the retained ones hardly."""
    before, after = few.service, influence(few).service
    change = []
    for rows in (few.forget, ~few.forget):
        losses = []
        for service in (before, after):
            answers = service.model.probabilities(service.trained, few.inputs)
            losses.append(-np.log(np.take_along_axis(answers, few.labels[..., None], axis=-1)[..., 0])[rows].reshape(4, -1).mean(axis=1))
        change.append((losses[1] - losses[0]).mean())
    assert change[0] > 0.05 > 0.03 > abs(change[1])


def test_costs_are_counted_in_gradients_over_all_rows(few: Withdrawal) -> None:
    """Of ascent only the share of rows that it takes gradients of, and no more than were taken."""
    share = 6 / 36
    exact = {"retrain": 30 * (1 - share), "finetune": 8 * (1 - share), "distill": 8, "ssd": 1, "influence": 1}
    for name, steps in exact.items():
        np.testing.assert_allclose(unlearn(few, name).steps, steps)
    plain, relative = unlearn(few, "ga").steps / share, unlearn(few, "rga").steps
    for steps in (plain, relative):
        np.testing.assert_allclose(steps, np.round(steps))
        assert (steps <= 300).all() and steps.any()
