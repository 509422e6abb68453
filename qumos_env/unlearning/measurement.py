"""What is measured of models that were made to forget, beside the original, a mask on its output, and the retrained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..evaluation.membership import loss_scores
from ..evaluation.roc import auc
from ..evaluation.service import Service
from .mask import mask_levels, masked
from .mechanisms import RETRAIN, retrain, unlearn
from .relearning import relearn, relearning_rows
from .traces import trace_auc
from .withdrawal import Withdrawal

SHOTS = (100, 1000)
LEAST_MEMBERS = 5
"""Withdrawn rows below which no membership attack is scored."""
MOST_FRESH = 2000
"""Held-out rows that the withdrawn ones are compared with; every start of every kind of model answers them."""
STARTS = 8
"""Initial parameters from which originals and retrained models are trained, to tell forgetting from the noise of training."""
COLUMNS = ("before", "mask", "after", "retrained")
BEFORE, MASK, AFTER, RETRAINED = range(4)

ACCURACY = "forget accuracy"
RETAIN_ACCURACY = "retain accuracy"
TEST_ACCURACY = "test accuracy"
LOSS = "forget loss"
GAP = "loss gap"
DISTANCE = "forget total variation"
TEST_DISTANCE = "test total variation"
LOG_ODDS = "forget log-odds difference"
RELEARNED = "relearned accuracy"
SPEED = "relearning speed"
MEMBERSHIP = "membership AUC"
CALIBRATED = "LiRA AUC"
TRACE = "trace AUC"
RELEARNED_TRACE = "relearned trace AUC"
STEPS = "gradient steps"

_LEVELS = (None, *SHOTS)
# Answers that differ by less do so by rounding.
_SAME = 1e-4
_DIGITS = 9
_Rows = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Measured:
    """Outcome of a mechanism on the M models of one service.

    Attributes:
        task, method: what was done.
        after: the models that have forgotten.
        changed: which answer any training row differently, bool ``[M]``.
        figures: name -> float ``[4, M]``, in the order of ``COLUMNS``; NaN where there is nothing to measure.
        auc_error: standard deviation of each AUC of the exact answers if it is ½, ``[M]``.
    """

    task: Withdrawal
    method: str
    after: Service
    changed: np.ndarray
    figures: dict[str, np.ndarray]
    auc_error: np.ndarray


@dataclass(frozen=True, eq=False)
class _Seen:
    """What one kind of model shows, trained from S initial parameters.

    Attributes:
        answers: per level of shots and kind of row, ``[M, rows, classes]``, of the first.
        exact: exact answers per kind of row, ``[S, M, rows, classes]``.
        relearned: answers to the training rows in the course of relearning, ``[S, steps + 1, M, rows, classes]``.
    """

    answers: dict[int | None, _Rows]
    exact: _Rows
    relearned: np.ndarray

    def behind(self, levels: np.ndarray) -> _Seen:
        """The same behind masks, ``[S, M, classes]``, which relearning lifts."""
        answers = {shots: {kind: masked(one, levels[0]) for kind, one in found.items()} for shots, found in self.answers.items()}
        return _Seen(answers, {kind: masked(one, levels) for kind, one in self.exact.items()}, self.relearned)


def measure(task: Withdrawal, methods: Sequence[str]) -> dict[str, Measured]:
    """Runs the mechanisms and measures each.

    Raises:
        QumosError: unknown method.
        EvaluationFailure: a mechanism or a training diverged.
    """
    tasks = [task, *(task.from_start(start) for start in range(1, STARTS))]
    rows = {"train": task.train, "test": task.service.test, "fresh": task.service.together("score", MOST_FRESH)}
    labels = {kind: task.service.observed_labels[numbers] for kind, numbers in rows.items()}
    chosen = relearning_rows(task)

    def see(outcomes: Sequence[Service], which: str) -> _Seen:
        answers = {shots: _answers(outcomes[0], rows, shots, which) for shots in _LEVELS}
        exact = {
            kind: np.stack([one.model.probabilities(one.trained, one.encode(rows[kind])) for one in outcomes])
            for kind in ("train", "fresh")
        }
        return _Seen(answers, exact, np.stack([relearn(one, task.train, chosen) for one in outcomes]))

    gold = [retrain(one) for one in tasks]
    # From initial parameters that no other model has: two retrained models are not alike either.
    again = see([retrain(replace(task, start=STARTS + start)).service for start in range(STARTS)], "retrained again")
    retrained, before = see([one.service for one in gold], "retrained"), see([one.service for one in tasks], "before")
    mask = before.behind(np.stack([mask_levels(one) for one in tasks]))
    column = partial(_figures, task, before=before, retrained=retrained, again=again, labels=labels, chosen=chosen)
    fixed = {BEFORE: column(before), MASK: column(mask), RETRAINED: column(retrained)}
    training = np.full(len(task.forget), float(task.model.settings.steps))
    cost = {BEFORE: training, MASK: np.zeros(len(training)), RETRAINED: gold[0].steps}
    bare = ~task.whole_classes.any(axis=1)
    error = _auc_error(labels, task.forget, np.take_along_axis(task.classes, labels["fresh"], axis=1))
    found = {}
    for name in methods:
        outcomes = gold if name == RETRAIN else [unlearn(one, name) for one in tasks]
        after = see([one.service for one in outcomes], "after")
        columns = fixed | {AFTER: column(after, stand_in=False)}
        figures = {figure: np.stack([columns[at][figure] for at in range(len(COLUMNS))]) for figure in columns[BEFORE]}
        steps = cost | {AFTER: outcomes[0].steps}
        figures[STEPS] = np.stack([steps[at] for at in range(len(COLUMNS))])
        for values in figures.values():
            values[MASK, bare] = np.nan
        moved = np.abs(after.exact["train"][0] - before.exact["train"][0])
        found[name] = Measured(task, name, outcomes[0].service, moved.max(axis=(1, 2)) > _SAME, figures, error)
    return found


def _answers(service: Service, rows: _Rows, shots: int | None, which: str) -> _Rows:
    """What the service answers, ``[M, rows, classes]``, for every kind of row, exactly or from ``shots`` per part."""
    model = service.model.with_shots(shots)
    return {
        kind: model.answers(service.trained, service.encode(numbers), service.keys(f"model {which}, {shots} shots, {kind} rows"))
        for kind, numbers in rows.items()
    }


def _figures(
    task: Withdrawal,
    one: _Seen,
    *,
    before: _Seen,
    retrained: _Seen,
    again: _Seen,
    labels: _Rows,
    chosen: np.ndarray,
    stand_in: bool = True,
) -> dict[str, np.ndarray]:
    """The figures ``[M]`` of one kind of model.

    Args:
        task: the rows and their models.
        one: the kind.
        before, retrained: what it is compared with.
        again: retrained models from other initial parameters.
        labels: of the rows of every kind.
        chosen: rows for relearning.
        stand_in: a model is not compared with itself; its like from other initial parameters stands in.
    """
    forget = task.forget
    kept = ~np.take_along_axis(task.whole_classes, labels["test"], axis=1)
    fresh_like = np.take_along_axis(task.classes, labels["fresh"], axis=1)
    everything = np.ones(labels["test"].shape, bool)
    other = again if stand_in and one is retrained else one
    found: dict[str, np.ndarray] = {}
    for shots in _LEVELS:
        rows = _accuracies(one.answers[shots], labels, forget, kept)
        drop = {name: value - rows[name] for name, value in _accuracies(before.answers[shots], labels, forget, kept).items()}
        sure = {name: loss_scores(one.answers[shots][name], labels[name]) for name in ("train", "fresh")}
        answers, gold = other.answers[shots], retrained.answers[shots]
        odds = [loss_scores(served["train"], labels["train"]) for served in (answers, gold)]
        rows |= {
            LOSS: _loss(sure["train"], forget),
            MEMBERSHIP: _membership(sure, labels, forget, fresh_like),
            "UQI": drop[ACCURACY] - (drop[RETAIN_ACCURACY] + drop[TEST_ACCURACY]) / 2,
            DISTANCE: _mean(_total_variation(answers["train"], gold["train"]), forget),
            TEST_DISTANCE: _mean(_total_variation(answers["test"], gold["test"]), everything),
            "forget agreement": _mean(_agree(answers["train"], gold["train"]), forget),
            "test agreement": _mean(_agree(answers["test"], gold["test"]), everything),
            LOG_ODDS: _mean(np.abs(odds[0] - odds[1]), forget),
        }
        found |= {name if shots is None else f"{name}, {shots} shots": values for name, values in rows.items()}

    scores, usual = ({kind: loss_scores(seen.exact[kind], labels[kind]) for kind in seen.exact} for seen in (other, retrained))
    own = [
        loss_scores(seen.exact["train"][start], labels["train"]) for seen, start in ((one, int(stand_in and one is before)), (before, 0))
    ]
    found[GAP] = _loss(own[0], forget) - _loss(own[1], forget)
    # With a fixed variance, LiRA's offline score ranks rows by how far they lie above their median over shadow models without them.
    above = {kind: scores[kind][0] - np.median(usual[kind][1:], axis=0) for kind in scores}
    found[CALIBRATED] = _membership(above, labels, forget, fresh_like)
    found[TRACE] = trace_auc(scores["train"], usual["train"], forget)
    # A class with a single withdrawn row has none to relearn from; a model whose classes all are so has nothing to show.
    rest, some = forget & ~chosen, (forget & chosen).any(axis=1)
    back = np.stack([_mean(step.argmax(axis=-1) == labels["train"], rest) for step in one.relearned[0]])
    mine, control = (loss_scores(seen.relearned, labels["train"]).mean(axis=1) for seen in (other, retrained))
    relearning = {RELEARNED: back[-1], SPEED: back.mean(axis=0), RELEARNED_TRACE: trace_auc(mine, control, rest)}
    return found | {name: np.where(some, values, np.nan) for name, values in relearning.items()}


def _accuracies(answers: _Rows, labels: _Rows, forget: np.ndarray, kept: np.ndarray) -> dict[str, np.ndarray]:
    """Of the withdrawn, the retained, and the test rows that are ``kept``, ``[M]``."""
    right = {name: answers[name].argmax(axis=-1) == labels[name] for name in ("train", "test")}
    return {
        ACCURACY: _mean(right["train"], forget),
        RETAIN_ACCURACY: _mean(right["train"], ~forget),
        TEST_ACCURACY: _mean(right["test"], kept),
    }


def _mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean of the ``chosen`` ``[M, rows]`` of ``values``, per model."""
    return np.sum(values * chosen, axis=1) / chosen.sum(axis=1)


def _loss(scores: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean cross-entropy ``[M]`` of the ``chosen`` rows with ``loss_scores`` ``[M, rows]``: φ are the log-odds of the label."""
    return _mean(np.logaddexp(0.0, -scores), chosen)


def _total_variation(answers: np.ndarray, others: np.ndarray) -> np.ndarray:
    return 0.5 * np.abs(answers - others).sum(axis=-1)


def _agree(answers: np.ndarray, others: np.ndarray) -> np.ndarray:
    return answers.argmax(axis=-1) == others.argmax(axis=-1)


def _membership(scores: dict[str, np.ndarray], labels: dict[str, np.ndarray], forget: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """AUC of the loss threshold, ``[M]``, within each class and averaged by withdrawn rows: the adversary knows the labels."""
    found = np.full(len(forget), np.nan)
    for model in range(len(forget)):
        pairs = _pairs(labels, forget, fresh, model)
        # Behind a mask, rows differ by rounding alone: those are ties.
        inside, outside = (np.round(scores[kind][model], _DIGITS) for kind in ("train", "fresh"))
        if pairs:
            parts = [len(mine) * auc(inside[mine], outside[theirs]) for mine, theirs in pairs]
            found[model] = sum(parts) / forget[model].sum()
    return found


def _auc_error(labels: dict[str, np.ndarray], forget: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Standard deviation of the AUC of ``_membership`` if it is ½ in truth, ``[M]``: (n₁ + n₀ + 1)/(12·n₁·n₀) in a class."""
    found = np.full(len(forget), np.nan)
    for model in range(len(forget)):
        sizes = [(len(mine), len(theirs)) for mine, theirs in _pairs(labels, forget, fresh, model)]
        if sizes:
            total = sum(n1 for n1, _ in sizes)
            found[model] = np.sqrt(sum((n1 / total) ** 2 * (n1 + n0 + 1) / (12 * n1 * n0) for n1, n0 in sizes))
    return found


def _pairs(labels: dict[str, np.ndarray], forget: np.ndarray, fresh: np.ndarray, model: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per withdrawn class, positions of its withdrawn and of its held-out rows; none where these are too few."""
    mine, theirs = np.flatnonzero(forget[model]), np.flatnonzero(fresh[model])
    pairs = [
        (mine[labels["train"][model][mine] == label], theirs[labels["fresh"][model][theirs] == label])
        for label in np.unique(labels["train"][model][mine])
    ]
    return pairs if len(mine) >= LEAST_MEMBERS and all(len(others) for _, others in pairs) else []
