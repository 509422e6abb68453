"""Scores that are to tell members from non-members: the rows they are about, and what is measured of them.

Members are the rows that trained a model, non-members fresh rows of the same class distribution. An AUC is that of one model,
averaged over models before anyone compares it with ½. One model has too few rows for a false-positive rate of 1 %: for the
true-positive rates the scores of all models are pooled, one threshold is taken from their non-members, and each model's members
are held against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import QumosError
from ...evaluation.roc import LOW_RATES, RATE_GRID, auc, rate_name, rates_on_grid, resolution_note, threshold_at, true_positive_rate
from ...evaluation.service import Service
from ..results import Control, Criterion, Curve, Measurement, Plot

PLOT = Plot("membership ROC", "false-positive rate", "true-positive rate", log_x=True, log_y=True, y_range=(1e-3, 1.1), guessing=True)
GUESS = Control("a guess", 0.5)
"""Of an AUC or a balanced accuracy."""
AUC_LEAK = Criterion("higher", 0.05)
"""Of an AUC: above a guess's, and one pair of a member and a non-member in twenty more is told apart than by a guess."""
RATE_LEAK = Criterion("higher", 0.02)
"""Of a true-positive rate at 1 % false positives: three times a guess's."""

_PAIR_NOTE = "one value per pair of models that swap members and non-members"

Scores = Sequence[np.ndarray]
"""Scores of rows, one array per model."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Rows that an adversary asked about, members first.

    Attributes:
        rows: row numbers ``[K, m + n]``.
        answers: the service's, ``[K, m + n, classes]``.
        member: which of the rows trained their model, bool ``[m + n]``.
    """

    rows: np.ndarray
    answers: np.ndarray
    member: np.ndarray


def ask_about(victim: Service, members: np.ndarray | None = None, others: np.ndarray | None = None) -> Asked:
    """The answers to row numbers ``members`` ``[K, m]`` and ``others`` ``[K, n]``; default the train rows and non-members of every draw.

    Raises:
        QumosError: a row is in both.
    """
    members = victim.together("train") if members is None else members
    others = victim.together("nonmembers") if others is None else others
    _check_disjoint(members, others)
    answers = np.concatenate([victim.answer(members, "members"), victim.answer(others, "others")], axis=1)
    return Asked(np.concatenate([members, others], axis=1), answers, np.arange(answers.shape[1]) < members.shape[1])


def balanced_split(labels: np.ndarray, member: np.ndarray, share: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit an attack on and rows to score it on: disjoint indices, each with as many members as non-members of every class.

    Args:
        labels: ``[rows]``.
        member: bool ``[rows]``.
        share: of the rows of a class to fit on; both sides get at least one.
        generator: source of the choice.

    Raises:
        QumosError: no class has two members and two non-members.
    """
    fitted, scored = [], []
    for label in np.unique(labels):
        inside, outside = (generator.permutation(np.flatnonzero((labels == label) & side)) for side in (member, ~member))
        size = min(len(inside), len(outside))
        if size < 2:
            continue
        cut = min(max(round(share * size), 1), size - 1)
        fitted += [inside[:cut], outside[:cut]]
        scored += [inside[cut:size], outside[cut:size]]
    if not fitted:
        raise QumosError("a fitted membership attack needs two members and two non-members of some class")
    return np.concatenate(fitted), np.concatenate(scored)


def per_model(members: Scores, others: Scores) -> np.ndarray:
    """Per model its AUC, and the share of its members above the pooled thresholds of ``LOW_RATES``: ``[models, 1 + rates]``."""
    pooled = np.concatenate(others)
    thresholds = np.array([threshold_at(pooled, rate) for rate in LOW_RATES])
    found = []
    for inside, outside in zip(members, others, strict=True):
        shares = np.where(np.isnan(thresholds), np.nan, np.mean(inside[:, None] >= thresholds, axis=0))
        found.append([auc(inside, outside), *shares])
    return np.array(found)


def per_unit(victim: Service, values: np.ndarray) -> np.ndarray:
    """Values ``[K, ...]`` of models as values of independent units: with ``half_split`` the means of pairs.

    One's members are the other's non-members there, so rows that happen to be easy raise one AUC as they lower the other.
    """
    if not victim.scenario.draws.half_split:
        return values
    return values.reshape(-1, 2, *values.shape[1:]).mean(axis=1)


def unit_note(victim: Service) -> str:
    """What the units of ``per_unit`` are, where they are not models."""
    return _PAIR_NOTE if victim.scenario.draws.half_split else ""


def measured(way: str, values: np.ndarray, members: Scores, others: Scores, note: str, headlines: int = 1) -> list[Measurement]:
    """The AUC and the true-positive rates of an attack.

    Args:
        way: what the scores are.
        values: AUC and rates of the units, as ``per_model`` gives them, ``[units, 1 + rates]``.
        members, others: the scores of all models.
        note: on the units.
        headlines: how many of the measurements stand in the summary, the AUC first.
    """
    inside, outside = np.concatenate(members), np.concatenate(others)
    found = [Measurement(way, "AUC", values[:, 0], GUESS, note, headlines > 0, criterion=AUC_LEAK if headlines else None)]
    for column, rate in enumerate(LOW_RATES, start=1):
        remarks = (f"{resolution_note(len(outside), rate)}, pooled over models", _extreme_note(inside, outside, rate), note)
        quantity, guess = f"TPR at {rate_name(rate)} FPR", Control("a guess at that FPR", rate)
        judged = RATE_LEAK if headlines > column else None
        note_of_rate = "; ".join(filter(None, remarks))
        found.append(Measurement(way, quantity, values[:, column], guess, note_of_rate, headlines > column, criterion=judged))
    return found


def roc(way: str, members: Scores, others: Scores) -> Curve:
    """The ROC curve of the scores of all models."""
    return Curve(PLOT, way, RATE_GRID, rates_on_grid(np.concatenate(members), np.concatenate(others)))


def _check_disjoint(members: np.ndarray, others: np.ndarray) -> None:
    """Raises QumosError where a row number is both in ``members`` ``[K, m]`` and in ``others`` ``[K, n]`` of one draw."""
    for index, (inside, outside) in enumerate(zip(members, others, strict=True)):
        both = np.intersect1d(inside, outside)
        if len(both):
            raise QumosError(f"membership: {len(both)} non-member row(s) of draw {index} are members of it, such as row {both[0]}")


def _extreme_note(members: np.ndarray, others: np.ndarray, rate: float) -> str:
    """A bound where the spread over models gives none, since all of them found nobody or everybody."""
    found = true_positive_rate(members, others, rate)
    if found.mean == 0:
        return f"none of {len(members):,} members is called one: at most {rate_name(float(f'{found.high:.2g}'))} (Clopper–Pearson)"
    if found.mean == 1:
        return f"all {len(members):,} members are called so: at least {rate_name(float(f'{found.low:.3g}'))} (Clopper–Pearson)"
    return ""
