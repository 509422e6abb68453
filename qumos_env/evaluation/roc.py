"""How well scores tell members from non-members: AUC, ROC curve, true positives at a low false-positive rate.

A figure from few rows is mostly noise, so each comes with its interval and its resolution. A false-positive rate below one
over the number of non-members cannot be measured at all, and is NaN here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, rankdata

from ..errors import QumosError
from .statistics import CONFIDENCE, Interval

LOW_RATES = (0.01, 0.001)
"""False-positive rates at which attacks are reported, following Carlini et al. (2022)."""

RATE_GRID = np.geomspace(1e-3, 1.0, 31)
"""False-positive rates of a curve on logarithmic axes."""

# Bounds of an AUC are sought up to here: the variance vanishes at 1, which would be a root of its own.
_NEARLY_ONE = 1 - 1e-9


@dataclass(frozen=True, eq=False)
class RocCurve:
    """One point per distinct score, from (0, 0) to (1, 1): rates ``[points]`` of non-members and members called members.

    ``thresholds`` ``[points]`` are the lowest scores called members; the first is infinite.
    """

    false_positive: np.ndarray
    true_positive: np.ndarray
    thresholds: np.ndarray


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """Probability that a member scores above a non-member, ties counted half (Mann–Whitney); NaN without rows of either."""
    if len(members) == 0 or len(others) == 0:
        return float("nan")
    ranks = rankdata(np.concatenate([members, others]))
    n = len(members)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(others)))


def auc_interval(members: np.ndarray, others: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """The AUC of scores ``[members]`` and ``[others]`` of independent rows, with a score interval; NaN without rows of either.

    The interval holds every AUC from which the measured one is no further than the normal quantile times the standard error
    that Hanley and McNeil (Radiology 143, 1982) give *there*, as Newcombe (Statistics in Medicine 25, 2006) proposes. So it
    holds ½ exactly when the Mann–Whitney test finds nothing, and keeps its width at an AUC of 1, where those of DeLong and
    Hanley and McNeil have none.
    """
    found = auc(members, others)
    if not np.isfinite(found):
        return Interval(np.nan, np.nan, np.nan)
    quantile = float(norm.ppf((1 + confidence) / 2))
    low = _lowest_auc(found, len(members), len(others), quantile)
    high = 1 - _lowest_auc(1 - found, len(others), len(members), quantile)
    return Interval(found, low, high)


def auc_deviation(value: float, members: int, others: int) -> float:
    """Standard error of an AUC of ``value`` from so many rows (Hanley and McNeil, 1982)."""
    above = value / (2 - value) - value**2
    below = 2 * value**2 / (1 + value) - value**2
    variance = (value * (1 - value) + (members - 1) * above + (others - 1) * below) / (members * others)
    return float(np.sqrt(max(variance, 0.0)))


def _lowest_auc(found: float, members: int, others: int, quantile: float) -> float:
    if found <= 0:
        return 0.0
    gap: Callable[[float], float] = lambda value: found - value - quantile * auc_deviation(value, members, others)  # noqa: E731
    return float(brentq(gap, 0.0, min(found, _NEARLY_ONE)))


def roc_curve(members: np.ndarray, others: np.ndarray) -> RocCurve:
    """The ROC curve of scores ``[members]`` and ``[others]``.

    Raises:
        QumosError: no rows of either.
    """
    if len(members) == 0 or len(others) == 0:
        raise QumosError(f"a ROC curve needs members and non-members, got {len(members)} and {len(others)}")
    scores = np.concatenate([members, others])
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    is_member = order < len(members)
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    return RocCurve(
        false_positive=np.append(0.0, np.cumsum(~is_member)[last] / len(others)),
        true_positive=np.append(0.0, np.cumsum(is_member)[last] / len(members)),
        thresholds=np.append(np.inf, falling[last]),
    )


def advantage(members: np.ndarray, others: np.ndarray) -> float:
    """max(TPR − FPR) over all thresholds (Yeom et al., 2018); the best balanced accuracy is (1 + advantage)/2.

    The threshold is chosen on the rows that it is scored on: read it beside ``noise_advantage``.
    """
    curve = roc_curve(members, others)
    return float(np.max(curve.true_positive - curve.false_positive))


def noise_advantage(members: int, others: int) -> float:
    """What ``advantage`` is expected to be for so many rows when scores say nothing.

    √(π/8) · √(1/n₁ + 1/n₀): the mean of the limit of the one-sided Kolmogorov–Smirnov statistic, P(D > x) = exp(−2x²).
    """
    return float(np.sqrt(np.pi / 8) * np.sqrt(1 / members + 1 / others))


def threshold_at(others: np.ndarray, rate: float) -> float:
    """The score from which rows are called members so that at most a share ``rate`` of ``others`` is; NaN where that is unmeasurable.

    It is the k-th highest score of a non-member, k = ⌊rate · n⌋ (just above it, if ties there would exceed the rate): rows that
    say nothing are then called members with probability k/(n + 1), which is below ``rate``. The threshold of the usual
    reading, just above the next non-member, gives (k + 1)/(n + 1): for pure noise twice the rate at 100 non-members.

    Raises:
        QumosError: ``rate`` outside (0, 1].
    """
    if not 0 < rate <= 1:
        raise QumosError(f"false-positive rate is {rate}, a number above 0 and up to 1 is needed")
    allowed = int(np.floor(rate * len(others) + 1e-9))
    if allowed < 1:
        return float("nan")
    if allowed == len(others):
        return -np.inf
    score = np.partition(others, -allowed)[-allowed]
    return float(score if np.sum(others >= score) <= allowed else np.nextafter(score, np.inf))


def true_positive_rate(members: np.ndarray, others: np.ndarray, rate: float, confidence: float = CONFIDENCE) -> Interval:
    """Share of ``members`` called so at a false-positive rate of at most ``rate``, with its Clopper–Pearson interval.

    The interval is that of the members for the given threshold. NaN with fewer than 1/``rate`` non-members, or no members.

    Raises:
        QumosError: ``rate`` outside (0, 1].
    """
    threshold = threshold_at(others, rate)
    if np.isnan(threshold) or len(members) == 0:
        return Interval(np.nan, np.nan, np.nan)
    called = int(np.sum(members >= threshold))
    bounds = binomtest(called, len(members)).proportion_ci(confidence, method="exact")
    return Interval(called / len(members), float(bounds.low), float(bounds.high))


def rates_on_grid(members: np.ndarray, others: np.ndarray, grid: np.ndarray = RATE_GRID) -> np.ndarray:
    """True-positive rates ``[points]`` at the false-positive rates ``grid``; NaN below the resolution."""
    thresholds = np.array([threshold_at(others, rate) for rate in grid])
    shares = np.mean(members[:, None] >= thresholds, axis=0)
    return np.where(np.isnan(thresholds), np.nan, shares)


def rate_name(rate: float) -> str:
    """``1 %`` for 0.01."""
    return f"{100 * rate:g} %"


def resolution_note(others: int, rate: float) -> str:
    """What so many non-members allow to say about a false-positive rate of ``rate``."""
    if rate * others < 1 - 1e-9:
        return f"n/a: a false-positive rate of {rate_name(rate)} needs {int(np.ceil(1 / rate)):,} non-member scores, there are {others:,}"
    return f"threshold from {others:,} non-member scores, which resolve false-positive rates from {rate_name(float(f'{1 / others:.2g}'))}"
