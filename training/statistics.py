"""Intervals for few, noisy figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 5000


@dataclass(frozen=True)
class Interval:
    """An estimate with the limits of its 95 % interval; the limits are NaN where there is only one figure."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2


def t_interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % Student interval of independent figures (here: one per evaluation seed)."""
    data = np.asarray(values, np.float64)
    mean = float(data.mean())
    if len(data) < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(data) - 1) * data.std(ddof=1) / np.sqrt(len(data)))
    return Interval(mean, mean - half, mean + half)


def interquartile_mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the middle half, fractional at the ends (Agarwal et al., 2021)."""
    return float(stats.trim_mean(np.asarray(values, np.float64), 0.25)) if len(values) >= 4 else float(np.mean(values))


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Interquartile mean of ``values`` (one per run) with its 95 % percentile bootstrap interval."""
    data = np.asarray(values, np.float64)
    centre = interquartile_mean(data)
    if len(data) < 2:
        return Interval(centre, float("nan"), float("nan"))
    picks = np.random.default_rng(seed).integers(len(data), size=(RESAMPLES, len(data)))
    means = stats.trim_mean(data[picks], 0.25, axis=1) if len(data) >= 4 else data[picks].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(centre, float(low), float(high))
