"""What an unlearning achieved: every figure before, behind a mask, after, and for a model that was retrained without the rows.

Low accuracy on withdrawn rows is no evidence of forgetting: a model retrained without a class never answers with it either, a
mask on the output does the same without forgetting anything, and a broken model answers nothing rightly. What counts is that the
model behaves on these rows as the retrained one does, and goes on doing so in the hands of somebody who trains it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import norm

from ..design import Design
from ..errors import QumosError
from ..evaluation.service import Service
from ..evaluation.statistics import CONFIDENCE, Interval, mean_interval
from ..evaluation.workload import Workload
from .measurement import (
    ACCURACY,
    AFTER,
    BEFORE,
    CALIBRATED,
    DISTANCE,
    GAP,
    LEAST_MEMBERS,
    LOG_ODDS,
    LOSS,
    MASK,
    MEMBERSHIP,
    RELEARNED_TRACE,
    RETRAINED,
    SPEED,
    STEPS,
    TEST_DISTANCE,
    TRACE,
    Measured,
    measure,
)
from .mechanisms import RETRAIN
from .withdrawal import CLASS_PREFIX, withdraw_class, withdraw_random

CRITERIA = (DISTANCE, TEST_DISTANCE, GAP, TRACE, SPEED, RELEARNED_TRACE)
"""What a mechanism has to be nearer to the retrained model in than a mask is, to be worth more than hiding."""


@dataclass(frozen=True)
class Comparison:
    """One figure of four models: means and 95 % intervals over their number.

    Where a model would be compared with itself, its like from other initial parameters stands in, and shows what the noise of
    training alone makes: in distances and in AUCs of traces a second retrained model for ``retrained``, in ``loss gap`` a second
    original for ``before``.

    Attributes:
        name: of the figure.
        before: the original.
        mask: the original with the classes masked that are withdrawn as a whole; NaN where none is.
        after: the unlearned model.
        retrained: the model retrained without the rows.
    """

    name: str
    before: Interval
    mask: Interval
    after: Interval
    retrained: Interval


@dataclass(frozen=True)
class UnlearningReport:
    """Outcome of an unlearning.

    Accuracies, AUCs and total variations are in [0, 1]; losses and log-odds in nats. With several models the intervals are
    Student's over models; they share one data set. A single model has an interval for its membership AUCs only, that of an AUC of
    ½ with as many rows (Mann and Whitney, 1947).

    Attributes:
        method: name of the mechanism.
        models: how many models were measured.
        forgotten, train_rows: withdrawn and all training rows of a model.
        changed: share of the models that answer any training row differently since.
        figures: the comparisons. ``forget`` are the withdrawn rows; ``test`` the fixed test split, in accuracies without the rows
            of classes that are withdrawn altogether; ``membership AUC`` is that of the loss threshold between withdrawn rows and
            held-out rows of the same class, set anew for every model, and ``LiRA AUC`` the same of each row's log-odds less their
            median over retrained models; ``UQI`` = forget_drop − ½(retain_drop + test_drop) in accuracy. ``loss gap`` is the mean
            loss on the withdrawn rows less the original's, with its sign. ``trace AUC`` is that with which an adversary who can
            train both tells the model from retrained ones by its withdrawn rows, see ``trace_auc``. ``relearned accuracy`` is that
            on withdrawn rows after the relearning of ``relearn`` on others of them, ``relearning speed`` its mean over all of
            the steps, and ``relearned trace AUC`` is for an adversary who has relearned first. ``gradient steps`` are the cost.
            Figures with shots are those of a service that answers from so many.
        gains: per distance, how much nearer to the retrained model the unlearned one is than the original, paired by model: mean
            total variation and mean absolute log-odds difference row by row, differences of the mean losses and of the relearning
            speeds, the LiRA AUC and those of traces.
        over_mask: the same against the mask; NaN where no class is withdrawn as a whole.
        notes: remarks for the reader.
    """

    method: str
    models: int
    forgotten: int
    train_rows: int
    changed: float
    figures: tuple[Comparison, ...]
    gains: dict[str, Interval]
    over_mask: dict[str, Interval]
    notes: tuple[str, ...]

    @property
    def closer(self) -> bool:
        """Whether the unlearned models behave more like retrained ones on the withdrawn rows than the originals, in the mean."""
        return self.gains[DISTANCE].mean > 0

    @property
    def beats_mask(self) -> bool | None:
        """Whether it is nearer to the retrained model than a mask in all ``CRITERIA``, beyond the intervals, and shows no more membership.

        None without a mask. A single model has no intervals, so its means decide the former, and nothing the latter.
        """
        return not self.behind_mask if self.over_mask[DISTANCE].known else None

    @property
    def behind_mask(self) -> tuple[str, ...]:
        """The criteria in which it is not nearer than a mask, and the LiRA AUC if that is worse.

        A mask answers the same to all rows of its class, so that none shows membership: there it cannot be beaten.
        """
        behind = [name for name in CRITERIA if not _above(self.over_mask[name])]
        return (*behind, *([CALIBRATED] if self.over_mask[CALIBRATED].high < 0 else []))

    def figure(self, name: str) -> Comparison:
        """The comparison called ``name``; KeyError if there is none."""
        return {figure.name: figure for figure in self.figures}[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; what could not be measured is null."""
        found: dict[str, Any] = _without_nan(asdict(self))
        return found | {"closer": self.closer, "beats_mask": self.beats_mask}


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
        service = Service.train(workload, design, seed)
        task = withdraw_class(service, _class_name(forget)) if isinstance(forget, str) else withdraw_random(service, forget)
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
        Comparison(name, *(_interval(values, errors if name.startswith((MEMBERSHIP, CALIBRATED)) else None) for values in rows))
        for name, rows in joined.items()
    )
    # The less, the better.
    away = {name: joined[name] for name in (DISTANCE, TEST_DISTANCE, LOG_ODDS, CALIBRATED, TRACE, RELEARNED_TRACE)}
    # The original's own loss, where the gap shows another original's.
    away |= {name: np.abs(joined[of] - joined[of][RETRAINED]) for name, of in ((GAP, LOSS), (SPEED, SPEED))}
    gains, over_mask = ({name: mean_interval(one[than] - one[AFTER]) for name, one in away.items()} for than in (BEFORE, MASK))
    changed = float(np.mean(np.concatenate([one.changed for one in measured])))
    forgotten, rows = int(first.task.forget[0].sum()), first.task.forget.shape[1]
    report = UnlearningReport(first.method, len(errors), forgotten, rows, changed, figures, gains, over_mask, ())
    return replace(report, notes=tuple(_notes(report, first)))


def _notes(report: UnlearningReport, first: Measured) -> Iterator[str]:
    distance, gap, steps = (report.figure(name) for name in (DISTANCE, GAP, STEPS))
    before, floor = distance.before.mean, distance.retrained.mean
    if report.over_mask[DISTANCE].known:
        control = report.figure(ACCURACY).retrained.mean
        yield (
            f"A model retrained without the class is right on {control:.0%} of its rows: low accuracy there is no evidence of "
            "forgetting, nearness to the retrained model is."
        )
    if before <= floor and not (report.models > 1 and gap.retrained.low > max(gap.before.high, 0.0)):
        yield (
            f"Before, the model was no farther from the retrained one ({before:.3f}) than a second retraining is ({floor:.3f}): "
            "there is little to forget that could be told from training noise."
        )
    elif before <= floor:
        yield (
            f"The distance to the retrained model ({before:.3f}) shows nothing that a second retraining ({floor:.3f}) does not, but the "
            f"loss does: that of the withdrawn rows is {gap.retrained.mean:+.3f} when retrained, {gap.before.mean:+.3f} from another start."
        )
    if report.method == RETRAIN:
        yield "The retrained model is the control itself: its distance is 0 by construction."
    else:
        if report.beats_mask is not None:
            where = f"No better than it in: {', '.join(report.behind_mask)}." if report.behind_mask else "Better than it in all criteria."
            yield f"A mask on the output forgets nothing, and is what nearness to the retrained model is measured by. {where}"
        if not report.closer:
            yield "The unlearned model is not closer to the retrained one than the original."
        if first.after.preprocessors is first.task.service.preprocessors:
            yield "The owner's preprocessing is kept: it was fitted on the withdrawn rows too, only starting again removes that trace."
        if steps.after.mean >= steps.retrained.mean:
            yield f"It took {steps.after.mean:.0f} gradient steps; retraining takes {steps.retrained.mean:.0f}."
    if report.changed < 1:
        yield f"The mechanism left {1 - report.changed:.0%} of the models as they were."
    if report.forgotten < LEAST_MEMBERS:
        yield f"No membership attack is scored on fewer than {LEAST_MEMBERS} withdrawn rows."
    if not report.figure(SPEED).before.known:
        yield "No class has lost two rows: there are none to relearn from and others to see what comes back."


def _above(gain: Interval) -> bool:
    """Whether a gain is above 0: beyond its interval, where it has one."""
    return (gain.low if np.isfinite(gain.low) else gain.mean) > 0


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
