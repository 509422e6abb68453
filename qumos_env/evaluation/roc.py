"""How well scores tell members from non-members: AUC, true positives at a low false-positive rate.

A figure from few rows is mostly noise, so each comes with its interval and its resolution. A false-positive rate below one
over the number of non-members cannot be measured at all, and is NaN here.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest, rankdata

from ..errors import QumosError
from .statistics import CONFIDENCE, Interval

LOW_RATES = (0.01, 0.001)
"""False-positive rates at which attacks are reported, following Carlini et al. (2022)."""

RATE_GRID = np.geomspace(1e-3, 1.0, 31)
"""False-positive rates of a curve on logarithmic axes."""


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """Probability that a member scores above a non-member, ties counted half (Mann–Whitney); NaN without rows of either."""
    if len(members) == 0 or len(others) == 0:
        return float("nan")
    ranks = rankdata(np.concatenate([members, others]))
    n = len(members)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(others)))


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
