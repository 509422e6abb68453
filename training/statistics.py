"""Intervals over few runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from qumos_env.evaluation.statistics import CONFIDENCE, Interval

RESAMPLES = 5000


def interquartile_mean(values: Sequence[float] | np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half of ``values`` ``[..., n]``, fractional at the ends (Agarwal et al., 2021); of fewer than four, of all."""
    data = np.asarray(values, np.float64)
    return np.asarray(stats.trim_mean(data, 0.25 if data.shape[axis] >= 4 else 0.0, axis=axis))


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Interquartile mean of ``values`` (one per run) with its 95 % percentile bootstrap interval; one value alone has none."""
    centre = float(interquartile_mean(values))
    if len(values) < 2:
        return Interval(centre, float("nan"), float("nan"))
    draws = np.random.default_rng(seed)
    found = stats.bootstrap(
        (values,), interquartile_mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", random_state=draws
    ).confidence_interval
    return Interval(centre, float(found.low), float(found.high))
