"""Means, intervals and standard errors of few, noisy measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; NaN where nothing can be said."""

    mean: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there is a figure at all."""
        return bool(np.isfinite(self.mean))

    @property
    def half(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2

    def text(self, *, signed: bool = False) -> str:
        """Mean and half-width, such as ``0.731 ± 0.024``; ``n/a`` where there is no figure."""
        if not self.known:
            return "n/a"
        mean = f"{self.mean:+z.3f}" if signed else f"{self.mean:z.3f}"
        bounded = np.isfinite(self.half) and self.half > 0
        return f"{mean}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{self.half:.3f}" if bounded else mean

    def to_dict(self) -> dict[str, float | None]:
        """Plain JSON; what is NaN here is null."""
        values = {"mean": self.mean, "low": self.low, "high": self.high}
        return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}


def mean_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Mean of independent ``values`` ``[n]`` with Student's interval; values that are NaN were not measured and are left out.

    One value alone has no interval: its bounds are NaN.
    """
    found = np.asarray(values, float)
    found = found[np.isfinite(found)]
    if len(found) == 0:
        return Interval(np.nan, np.nan, np.nan)
    mean = float(found.mean())
    if len(found) == 1:
        return Interval(mean, np.nan, np.nan)
    margin = float(student.ppf((1 + confidence) / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    return Interval(mean, mean - margin, mean + margin)


def standard_error(values: np.ndarray, units: np.ndarray) -> float:
    """Standard error of the mean of ``values`` ``[n]`` over the independent units numbered ``units`` ``[n]``; 0 for a single one."""
    means = np.bincount(units, values) / np.bincount(units)
    return float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else 0.0


def jackknife_error(leave_one_out: np.ndarray) -> float:
    """Jackknife standard error (Tukey, 1958) from the n leave-one-out estimates; 0 where there are none."""
    n = len(leave_one_out)
    return float(np.sqrt((n - 1) / n * np.sum((leave_one_out - leave_one_out.mean()) ** 2))) if n > 1 else 0.0
