"""Membership inference against a trained service: the registered attacks and the figures that they report.

Members are the rows that trained a model, non-members fresh rows of the same class distribution. An AUC is that of one model,
averaged over models before anyone compares it with ½. One model has too few rows for a false-positive rate of 1 %: for the
true-positive rates the scores of all models are pooled, one threshold is taken from their non-members, and each model's members
are held against it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import QumosError
from ...evaluation.membership import fit_gray_box, gray_box_scores, loss_scores
from ...evaluation.roc import LOW_RATES, RATE_GRID, auc, rate_name, rates_on_grid, resolution_note, threshold_at, true_positive_rate
from ...evaluation.service import Service
from ..registry import attack
from ..results import AttackResult, Curve, Figure
from .shadow_models import SHADOW_SCORES, Shadows, ShadowScore, Signals, pair_jackknife, shadow_scores

PLOT = "membership ROC"
FITTED_SHARE = 0.5
"""Share of the labelled rows on which the gray-box attack is fitted; it is scored on the others."""

_PAIR_NOTE = "one value per pair of models that swap members and non-members"
_JACKKNIFE_NOTE = "jackknife pseudo-values, one per pair of models, since the targets share their shadow models"

# Question numbers and last words of seeds, far from those of other attacks.
_MEMBERS_USE, _OTHERS_USE, _SPLIT_KEY, _FIT_KEY = 0x3E30, 0x3E31, 0x3E32, 0x3E33

Scores = Sequence[np.ndarray]
"""Scores of rows, one array per model."""


@attack("membership", "confidentiality", "sees the service's answers to rows whose labels it knows, and ranks them by their loss")
def loss_threshold(victim: Service) -> AttackResult:
    """The loss-threshold attack of Yeom et al. (2018) on the train rows and the non-members of every draw."""
    return loss_threshold_on(victim, victim.together("train"), victim.together("nonmembers"))


def loss_threshold_on(victim: Service, members: np.ndarray, others: np.ndarray) -> AttackResult:
    """As ``loss_threshold``, on row numbers ``members`` ``[K, m]`` and ``others`` ``[K, n]`` of every draw.

    Raises:
        QumosError: a row is in both.
    """
    answers, rows, is_member = _asked(victim, members, others)
    scores = [_standardised(loss_scores(answer, victim.labels[asked])) for answer, asked in zip(answers, rows, strict=True)]
    inside, outside = [one[is_member] for one in scores], [one[~is_member] for one in scores]
    values = per_unit(victim, per_model(inside, outside))
    return AttackResult(_figures("membership", "loss", values, inside, outside, _unit_note(victim)), [_curve("loss", inside, outside)])


@attack(
    "membership-gray-box",
    "confidentiality",
    "sees the service's answers to rows whose labels it knows, and knows of half of them whether they were members",
)
def gray_box(victim: Service) -> AttackResult:
    """The gray-box classifier of Su et al. (2025), fitted on half of the members and non-members and scored on the others."""
    return gray_box_on(victim, victim.together("train"), victim.together("nonmembers"))


def gray_box_on(victim: Service, members: np.ndarray, others: np.ndarray) -> AttackResult:
    """As ``gray_box``, on row numbers ``members`` ``[K, m]`` and ``others`` ``[K, n]`` of every draw.

    Fitted and scored rows hold as many members as non-members of every class.

    Raises:
        QumosError: a row is in both; no class has two rows of each.
    """
    answers, rows, is_member = _asked(victim, members, others)
    inside, outside = [], []
    for index, (answer, asked) in enumerate(zip(answers, rows, strict=True)):
        labels = victim.labels[asked]
        fitted, scored = balanced_split(labels, is_member, FITTED_SHARE, np.random.default_rng([victim.seed, index, _SPLIT_KEY]))
        network = fit_gray_box(answer[fitted], labels[fitted], is_member[fitted], [victim.seed, index, _FIT_KEY])
        scores = gray_box_scores(network, answer[scored], labels[scored])
        inside.append(scores[is_member[scored]])
        outside.append(scores[~is_member[scored]])
    right = np.array([(np.mean(one > 0.5) + np.mean(two <= 0.5)) / 2 for one, two in zip(inside, outside, strict=True)])
    note = _unit_note(victim)
    figures = _figures("membership-gray-box", "gray box", per_unit(victim, per_model(inside, outside)), inside, outside, note)
    balanced = _constant_figure("membership-gray-box", "gray box: balanced accuracy", per_unit(victim, right), 0.5, "a guess", note)
    return AttackResult([*figures, balanced], [_curve("gray box", inside, outside)])


@attack(
    "membership-shadows",
    "confidentiality",
    "sees the service's answers to rows whose labels it knows; knows the design, and trains it on data of the same distribution",
)
def shadow_models(victim: Service) -> AttackResult:
    """LiRA online and offline and RMIA, every shadow model being the target once; see ``qumos_env.attacks.shadows``."""
    return shadow_attack(Shadows.against(victim).signals())


def shadow_attack(signals: Signals) -> AttackResult:
    """LiRA online and offline and RMIA on what shadow models answered."""
    figures, curves = [], []
    for name, score in SHADOW_SCORES.items():
        inside, outside = _by_membership(signals, score)
        values = pair_jackknife(signals, lambda some, score=score: per_model(*_by_membership(some, score)).mean(axis=0))  # type: ignore[misc]
        figures += _figures("membership-shadows", name, values, inside, outside, _JACKKNIFE_NOTE)
        curves.append(_curve(name, inside, outside))
    return AttackResult(figures, curves)


def per_model(members: Scores, others: Scores) -> np.ndarray:
    """Per model its AUC, and the share of its members above the pooled thresholds of ``LOW_RATES``: ``[models, 1 + rates]``."""
    pooled = np.concatenate(others)
    thresholds = np.array([threshold_at(pooled, rate) for rate in LOW_RATES])
    found = []
    for inside, outside in zip(members, others, strict=True):
        shares = np.where(np.isnan(thresholds), np.nan, np.mean(inside[:, None] >= thresholds, axis=0))
        found.append([auc(inside, outside), *shares])
    return np.array(found)


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


def check_disjoint(members: np.ndarray, others: np.ndarray) -> None:
    """Raises QumosError where a row number is both in ``members`` ``[K, m]`` and in ``others`` ``[K, n]`` of one draw."""
    for index, (inside, outside) in enumerate(zip(members, others, strict=True)):
        both = np.intersect1d(inside, outside)
        if len(both):
            raise QumosError(f"membership: {len(both)} non-member row(s) of draw {index} are members of it, such as row {both[0]}")


def _asked(victim: Service, members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers ``[K, m + n, classes]`` to the rows ``[K, m + n]``, and which of them are members, bool ``[m + n]``."""
    check_disjoint(members, others)
    answers = np.concatenate([victim.answer(members, _MEMBERS_USE), victim.answer(others, _OTHERS_USE)], axis=1)
    return answers, np.concatenate([members, others], axis=1), np.arange(answers.shape[1]) < members.shape[1]


def _standardised(scores: np.ndarray) -> np.ndarray:
    """Scores of one model in units that models share: from their median, by their mean distance from it."""
    centred = scores - np.median(scores)
    return centred / max(float(np.mean(np.abs(centred))), float(np.finfo(float).tiny))


def _by_membership(signals: Signals, score: ShadowScore) -> tuple[list[np.ndarray], list[np.ndarray]]:
    pairs = list(zip(shadow_scores(signals, score), signals.member, strict=True))
    return [scores[member] for scores, member in pairs], [scores[~member] for scores, member in pairs]


def per_unit(victim: Service, values: np.ndarray) -> np.ndarray:
    """Values ``[K, ...]`` of models as values of independent units: with ``half_split`` the means of pairs.

    One's members are the other's non-members there, so rows that happen to be easy raise one AUC as they lower the other.
    """
    if not victim.scenario.draws.half_split:
        return values
    return values.reshape(-1, 2, *values.shape[1:]).mean(axis=1)


def _unit_note(victim: Service) -> str:
    return _PAIR_NOTE if victim.scenario.draws.half_split else ""


def _figures(name: str, prefix: str, values: np.ndarray, members: Scores, others: Scores, note: str) -> list[Figure]:
    """The AUC and the true-positive rates of ``values`` ``[units, 1 + rates]``."""
    inside, outside = np.concatenate(members), np.concatenate(others)
    found = [_constant_figure(name, f"{prefix}: AUC", values[:, 0], 0.5, "a guess", note)]
    for column, rate in enumerate(LOW_RATES, start=1):
        remarks = (f"{resolution_note(len(outside), rate)}, pooled over models", _extreme_note(inside, outside, rate), note)
        title = f"{prefix}: TPR at {rate_name(rate)} FPR"
        found.append(_constant_figure(name, title, values[:, column], rate, "a guess at that FPR", "; ".join(filter(None, remarks))))
    return found


def _extreme_note(members: np.ndarray, others: np.ndarray, rate: float) -> str:
    """A bound where the spread over models gives none, since all of them found nobody or everybody."""
    found = true_positive_rate(members, others, rate)
    if found.mean == 0:
        return f"none of {len(members):,} members is called one: at most {rate_name(float(f'{found.high:.2g}'))} (Clopper–Pearson)"
    if found.mean == 1:
        return f"all {len(members):,} members are called so: at least {rate_name(float(f'{found.low:.3g}'))} (Clopper–Pearson)"
    return ""


def _constant_figure(name: str, title: str, values: np.ndarray, constant: float, control: str, note: str) -> Figure:
    return Figure("confidentiality", name, title, values, control=control, constant=constant, note=note)


def _curve(name: str, members: Scores, others: Scores) -> Curve:
    return Curve(PLOT, name, RATE_GRID, rates_on_grid(np.concatenate(members), np.concatenate(others)))
