"""What an unlearning achieved: every figure before, after, and for a model that was retrained without the rows.

Low accuracy on withdrawn rows is no evidence of forgetting: a model retrained without a class never answers with it either, and a
broken model answers nothing rightly. What counts is that the model behaves on these rows as the retrained one does. Two
retrainings that differ in their initial parameters alone do not behave the same either: that distance is the floor, below which
nothing can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import norm

from ..design import Design
from ..errors import QumosError
from ..evaluation.membership import loss_scores
from ..evaluation.roc import auc
from ..evaluation.service import Service
from ..evaluation.statistics import CONFIDENCE, Interval, mean_interval
from ..evaluation.workload import Workload
from ..seeds import label
from .mechanisms import RETRAIN, retrain, unlearn
from .withdrawal import CLASS_PREFIX, Withdrawal, withdraw_class, withdraw_random

SHOTS = (100, 1000)
LEAST_MEMBERS = 5
"""Withdrawn rows below which no membership attack is scored."""
DISTANCE = "forget total variation"
LOG_ODDS = "forget log-odds difference"
LOSS = "forget loss"
_BEFORE, _AFTER, _RETRAINED, _AGAIN = range(4)
_LEVELS = (None, *SHOTS)
# Answers that differ by less do so by rounding.
_SAME = 1e-4
_Rows = dict[str, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """One figure: mean and 95 % interval over the models, before, after, and of models retrained without the rows (the control).

    For figures of distance the control is the floor: a second retraining, from other initial parameters.
    """

    name: str
    before: Interval
    after: Interval
    retrained: Interval


@dataclass(frozen=True)
class UnlearningReport:
    """Outcome of an unlearning.

    Accuracies, AUCs and total variations are in [0, 1]; losses and log-odds in nats. With several models the intervals are
    Student's over models; they share one data set. A single model has an interval for its AUC only, that of an AUC of ½ with as
    many rows (Mann and Whitney, 1947).

    Attributes:
        method: name of the mechanism.
        models: how many models were measured.
        forgotten, train_rows: withdrawn and all training rows of a model.
        changed: share of the models that answer any training row differently since.
        figures: the comparisons. ``forget`` are the withdrawn rows; ``test`` the fixed test split, in accuracies without the rows
            of classes that are withdrawn altogether; ``membership AUC`` is that of the loss threshold between withdrawn rows and
            held-out rows of the same class, set anew for every model; ``UQI`` = forget_drop − ½(retain_drop + test_drop) in
            accuracy. Figures with shots are those of a service that answers from so many.
        gains: per distance on the withdrawn rows, how much nearer to the retrained model the unlearned one is than the original:
            mean total variation and mean absolute log-odds difference, both row by row, and the difference of the mean losses.
        notes: remarks for the reader.
    """

    method: str
    models: int
    forgotten: int
    train_rows: int
    changed: float
    figures: tuple[Comparison, ...]
    gains: dict[str, Interval]
    notes: tuple[str, ...]

    @property
    def closer(self) -> bool:
        """Whether the unlearned models behave more like retrained ones on the withdrawn rows than the originals, in the mean."""
        return self.gains[DISTANCE].mean > 0

    def figure(self, name: str) -> Comparison:
        """The comparison called ``name``; KeyError if there is none."""
        return {figure.name: figure for figure in self.figures}[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; what could not be measured is null."""
        found: dict[str, Any] = _without_nan(asdict(self))
        return found | {"closer": self.closer}


@dataclass(frozen=True, eq=False)
class Measured:
    """Outcome of a mechanism on the M models of one victim.

    Attributes:
        task, method: what was done.
        after: the models that have forgotten.
        changed: which answer any training row differently, bool ``[M]``.
        figures: name -> float ``[3, M]``: before, after, retrained.
        auc_error: standard deviation of each AUC of the exact answers if it is ½, ``[M]``.
    """

    task: Withdrawal
    method: str
    after: Service
    changed: np.ndarray
    figures: dict[str, np.ndarray]
    auc_error: np.ndarray


def measure(task: Withdrawal, methods: Sequence[str]) -> dict[str, Measured]:
    """Runs the mechanisms and measures each beside the retrained models.

    Raises:
        QumosError: unknown method.
        EvaluationFailure: a mechanism or a retraining diverged.
    """
    gold = unlearn(task, RETRAIN)
    again = replace(gold, trained=retrain(task, [(*key, label("another start")) for key in task.keys]))
    rows = {"train": task.train, "test": task.victim.test, "fresh": task.victim.together("score")}
    models = {_BEFORE: task.victim, _RETRAINED: gold, _AGAIN: again}
    common = {(which, shots): _answers(one, rows, shots, which) for which, one in models.items() for shots in _LEVELS}
    found = {}
    for name in methods:
        after = gold if name == RETRAIN else unlearn(task, name)
        answers = common | {(_AFTER, shots): _answers(after, rows, shots, _AFTER) for shots in _LEVELS}
        found[name] = _measure(task, name, after, answers, {kind: task.victim.labels[numbers] for kind, numbers in rows.items()})
    return found


def compare_mechanisms(
    workload: Workload,
    design: Design,
    forget: str | int,
    methods: Sequence[str],
    seeds: Sequence[int],
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, UnlearningReport]:
    """Reports over all draws of several seeds.

    Args:
        workload: of a scenario.
        design: the design whose models forget.
        forget: ``class:`` and a class, or how many training rows, chosen anew for every draw.
        methods: names of mechanisms.
        seeds: evaluation seeds.
        on_progress: called with the number of seeds done and in all.

    Raises:
        QumosError: unknown class or method, or rows that cannot be withdrawn.
        EvaluationFailure: a training diverged.
    """
    found: dict[str, list[Measured]] = {name: [] for name in methods}
    for done, seed in enumerate(seeds):
        victim = Service.train(workload, design, seed)
        task = withdraw_class(victim, _class_name(forget)) if isinstance(forget, str) else withdraw_random(victim, forget)
        for name, measured in measure(task, methods).items():
            found[name].append(measured)
        if on_progress:
            on_progress(done + 1, len(seeds))
    return {name: summarise(measured) for name, measured in found.items()}


def summarise(measured: Sequence[Measured]) -> UnlearningReport:
    """The report on all models of ``measured``, which share a method and the number of rows."""
    first = measured[0]
    joined = {name: np.concatenate([one.figures[name] for one in measured], axis=1) for name in first.figures}
    errors = np.concatenate([one.auc_error for one in measured])
    figures = tuple(
        Comparison(name, *(_interval(values, errors if name.startswith("membership AUC") else None) for values in rows))
        for name, rows in joined.items()
    )
    loss = joined[LOSS]
    gaps = {DISTANCE: joined[DISTANCE], LOG_ODDS: joined[LOG_ODDS], LOSS: np.abs(loss - loss[_RETRAINED])}
    gains = {name: mean_interval(gap[_BEFORE] - gap[_AFTER]) for name, gap in gaps.items()}
    changed = float(np.mean(np.concatenate([one.changed for one in measured])))
    before, after, floor = joined[DISTANCE].mean(axis=1)
    whole_class = _whole_classes(first.task)
    notes = []
    if whole_class.any():
        control = joined["forget accuracy"][_RETRAINED].mean()
        notes.append(
            f"A model retrained without the class is right on {control:.0%} of its rows: low accuracy there is no evidence of "
            "forgetting, nearness to the retrained model is."
        )
    if before <= floor:
        notes.append(
            f"Before, the model was no farther from the retrained one ({before:.3f}) than a second retraining is ({floor:.3f}): "
            "there is little to forget that could be told from training noise."
        )
    if first.method == RETRAIN:
        notes.append("The retrained model is the control itself: its distance is 0 by construction.")
    else:
        notes.append("The owner's preprocessing is kept: it was fitted on the withdrawn rows too, only retraining removes that trace.")
        if not after < before:
            notes.append("The unlearned model is not closer to the retrained one than the original.")
    if changed < 1:
        notes.append(f"The mechanism left {1 - changed:.0%} of the models as they were.")
    if first.task.forget[0].sum() < LEAST_MEMBERS:
        notes.append(f"No membership attack is scored on fewer than {LEAST_MEMBERS} withdrawn rows.")
    forgotten, rows = int(first.task.forget[0].sum()), first.task.forget.shape[1]
    return UnlearningReport(first.method, len(errors), forgotten, rows, changed, figures, gains, tuple(notes))


def _measure(task: Withdrawal, method: str, after: Service, answers: dict[tuple[int, int | None], _Rows], labels: _Rows) -> Measured:
    """``answers`` of the models before, after, retrained and retrained again, per level of shots and kind of row."""
    forget = task.forget
    kept = ~np.take_along_axis(_whole_classes(task), labels["test"], axis=1)
    fresh_like = np.take_along_axis(_withdrawn_classes(task), labels["fresh"], axis=1)
    figures: dict[str, np.ndarray] = {}
    for shots in _LEVELS:
        served = [answers[which, shots] for which in (_BEFORE, _AFTER, _RETRAINED, _AGAIN)]
        right = [{name: found[name].argmax(axis=-1) == labels[name] for name in ("train", "test")} for found in served]
        sure = [{name: loss_scores(found[name], labels[name]) for name in ("train", "fresh")} for found in served]
        main = (_BEFORE, _AFTER, _RETRAINED)
        rows = {
            "forget accuracy": [_mean(right[i]["train"], forget) for i in main],
            LOSS: [_mean(np.logaddexp(0.0, -sure[i]["train"]), forget) for i in main],
            "retain accuracy": [_mean(right[i]["train"], ~forget) for i in main],
            "test accuracy": [_mean(right[i]["test"], kept) for i in main],
            "membership AUC": [_membership(sure[i], labels, forget, fresh_like) for i in main],
        }
        drop = {name: rows[name][_BEFORE] - np.stack(rows[name]) for name in ("forget accuracy", "retain accuracy", "test accuracy")}
        rows["UQI"] = list(drop["forget accuracy"] - (drop["retain accuracy"] + drop["test accuracy"]) / 2)
        # Distances from the retrained model; in the place of its own is that of the second retraining.
        control, everything = served[_RETRAINED], np.ones(labels["test"].shape, bool)
        others = (_BEFORE, _AFTER, _AGAIN)
        rows[DISTANCE] = [_mean(_total_variation(served[i]["train"], control["train"]), forget) for i in others]
        rows["test total variation"] = [_mean(_total_variation(served[i]["test"], control["test"]), everything) for i in others]
        rows["forget agreement"] = [_mean(_agree(served[i]["train"], control["train"]), forget) for i in others]
        rows["test agreement"] = [_mean(_agree(served[i]["test"], control["test"]), everything) for i in others]
        rows[LOG_ODDS] = [_mean(np.abs(sure[i]["train"] - sure[_RETRAINED]["train"]), forget) for i in others]
        figures |= {name if shots is None else f"{name}, {shots} shots": np.stack(values) for name, values in rows.items()}
    moved = np.abs(answers[_AFTER, None]["train"] - answers[_BEFORE, None]["train"])
    changed = moved.max(axis=(1, 2)) > _SAME
    return Measured(task, method, after, changed, figures, _auc_error(labels, forget, fresh_like))


def _answers(victim: Service, rows: _Rows, shots: int | None, which: int) -> _Rows:
    """What the service answers, ``[M, rows, classes]``, for every kind of row, exactly or from ``shots`` per part."""
    model = victim.model.with_shots(shots)
    return {
        kind: model.answers(victim.trained, victim.encode(numbers), victim.keys(f"model {which}, {shots} shots, {kind} rows"))
        for kind, numbers in rows.items()
    }


def _mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean of the ``chosen`` ``[M, rows]`` of ``values``, per model."""
    return np.sum(values * chosen, axis=1) / chosen.sum(axis=1)


def _total_variation(answers: np.ndarray, others: np.ndarray) -> np.ndarray:
    return 0.5 * np.abs(answers - others).sum(axis=-1)


def _agree(answers: np.ndarray, others: np.ndarray) -> np.ndarray:
    return answers.argmax(axis=-1) == others.argmax(axis=-1)


def _whole_classes(task: Withdrawal) -> np.ndarray:
    """Which classes have lost all training rows, bool ``[M, classes]``."""
    classes = np.arange(task.victim.n_classes)
    return ~np.any((task.labels[:, :, None] == classes) & ~task.forget[:, :, None], axis=1) & _withdrawn_classes(task)


def _withdrawn_classes(task: Withdrawal) -> np.ndarray:
    """Which classes have lost training rows, bool ``[M, classes]``."""
    classes = np.arange(task.victim.n_classes)
    return np.any((task.labels[:, :, None] == classes) & task.forget[:, :, None], axis=1)


def _membership(scores: dict[str, np.ndarray], labels: dict[str, np.ndarray], forget: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """AUC of the loss threshold, ``[M]``, within each class and averaged by withdrawn rows: the adversary knows the labels."""
    found = np.full(len(forget), np.nan)
    for model in range(len(forget)):
        pairs = _pairs(labels, forget, fresh, model)
        if pairs:
            parts = [len(mine) * auc(scores["train"][model][mine], scores["fresh"][model][theirs]) for mine, theirs in pairs]
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


def _interval(values: np.ndarray, errors: np.ndarray | None) -> Interval:
    if len(values) > 1 or errors is None:
        return mean_interval(values)
    margin = float(norm.ppf((1 + CONFIDENCE) / 2) * errors[0])
    return Interval(float(values[0]), float(values[0]) - margin, float(values[0]) + margin)


def _class_name(text: str) -> str:
    if not text.startswith(CLASS_PREFIX):
        raise QumosError(f"forget: {text!r} is not {CLASS_PREFIX}NAME; row numbers mean other rows in every draw, give how many")
    return text.removeprefix(CLASS_PREFIX)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
