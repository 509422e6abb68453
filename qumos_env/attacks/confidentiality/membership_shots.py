"""Membership inference by the loss, by shots of the service and by how often the adversary repeats a question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import QumosError
from ...evaluation.membership import loss_scores
from ...evaluation.roc import auc
from ...evaluation.service import Service
from ...evaluation.statistics import Interval, mean_interval
from ..registry import attack
from ..results import AttackResult, Curve, Measurement, Plot
from .member_scores import AUC_LEAK, GUESS, per_unit

SHOTS = (10, 100, 1000, None)
HEADLINES = (100, 1000, None)
"""The shots of an answer whose AUCs stand in the summary."""
PLOT = Plot("shots against leakage", "shots", "share", log_x=True)


@dataclass(frozen=True, eq=False)
class ShotsRow:
    """What an asker gets who puts every row ``repeats`` times to a service of ``shots`` runs and averages the answers.

    Attributes:
        shots: runs of every circuit per answer; ``None`` answers exactly.
        repeats: answers averaged.
        accuracies: on the test split, float ``[units]``: per draw, or pair of draws with ``half_split``.
        aucs: of the loss-threshold attack, members against fresh non-members, of the same units.
    """

    shots: int | None
    repeats: int
    accuracies: np.ndarray
    aucs: np.ndarray

    @property
    def accuracy(self) -> Interval:
        """Over the units."""
        return mean_interval(self.accuracies)

    @property
    def auc(self) -> Interval:
        """Over the units."""
        return mean_interval(self.aucs)


def shots_study(
    victim: Service,
    shots: Sequence[int | None] = SHOTS,
    repeats: Sequence[int] = (1, 10),
    on_progress: Callable[[int, int], None] | None = None,
) -> list[ShotsRow]:
    """Test accuracy and membership AUC of ``victim`` by shots and repeated questions; its design's own shots play no part.

    The same K trained models answer throughout. Exact answers gain nothing from repeats and have one row. Intervals are over
    draws (pairs of draws with ``half_split``).

    Args:
        victim: the trained models.
        shots, repeats: the table's rows.
        on_progress: called with the rows done and their number.

    Raises:
        QumosError: shots or repeats below 1.
    """
    for name, values in (("shots", shots), ("repeats", repeats)):
        wrong = [value for value in values if value is not None and value < 1]
        if wrong:
            raise QumosError(f"{name} is {wrong[0]}, at least 1 is needed")
    budgets = [(level, count) for level in shots for count in (repeats if level is not None else (1,))]
    members, others = victim.together("train"), victim.together("nonmembers")
    rows = np.concatenate([members, others, victim.test], axis=1)
    ends = np.cumsum([members.shape[1], others.shape[1]])
    inputs, labels = victim.encode(rows), victim.observed_labels[rows]
    table = []
    for done, (level, count) in enumerate(budgets, start=1):
        answers = _averaged_answers(victim, inputs, level, count)
        inside, outside, _ = np.split(loss_scores(answers, labels), ends, axis=1)
        right = np.mean((answers.argmax(axis=-1) == labels)[:, ends[1] :], axis=1)
        aucs = np.array([auc(one, two) for one, two in zip(inside, outside, strict=True)])
        table.append(ShotsRow(level, count, per_unit(victim, right), per_unit(victim, aucs)))
        if on_progress is not None:
            on_progress(done, len(budgets))
    return table


@attack(
    "membership-shots",
    goal="confidentiality",
    title="Membership by shots",
    adversary="asks a service that answers from a number of shots, once or several times, and ranks rows by the loss of the mean answer",
)
def run(victim: Service) -> AttackResult:
    """Loss-threshold AUC and accuracy by shots; a curve over shots for every number of repeats."""
    rows = shots_study(victim)
    found, curves = [], []
    for row in rows:
        case = "exact answers" if row.shots is None else f"{row.shots:,} shots, {_answers(row.repeats)}"
        headline = row.shots in HEADLINES and row.repeats == 1
        found.append(Measurement(case, "AUC", row.aucs, GUESS, headline=headline, criterion=AUC_LEAK if headline else None))
    for repeats in dict.fromkeys(row.repeats for row in rows if row.shots is not None):
        finite = [row for row in rows if row.shots is not None and row.repeats == repeats]
        for name, values in (("AUC", [row.auc.mean for row in finite]), ("accuracy", [row.accuracy.mean for row in finite])):
            where = np.array([float(row.shots or 0) for row in finite])
            curves.append(Curve(PLOT, f"{name}, {_answers(repeats)}", where, np.array(values)))
    return AttackResult(found, curves)


def _answers(repeats: int) -> str:
    return f"{repeats} answer{'s' if repeats > 1 else ''} a row"


def _averaged_answers(victim: Service, inputs: np.ndarray, shots: int | None, repeats: int) -> np.ndarray:
    """Mean class probabilities ``[K, rows, classes]`` of ``repeats`` answers to ``inputs`` ``[K, rows, n_qubits]``."""
    model = victim.model.with_shots(shots)
    uses = [f"shots study: {shots} shots, repeat {repeat}" for repeat in range(repeats)]
    return np.mean([model.answers(victim.trained, inputs, victim.keys(use)) for use in uses], axis=0)
