"""What attacks return: figures with their controls and intervals, and curves to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.stats import t as student

Goal = Literal["confidentiality", "integrity", "availability"]
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


@dataclass(frozen=True, eq=False)
class Figure:
    """One measured quantity of an attack, once per trained model, beside what the adversary gets without it.

    Attributes:
        goal: which property of the service it concerns.
        attack: name of the attack in the registry.
        name: what was measured, such as ``aurora, fine-tune: accuracy``.
        values: float ``[units]``, one per trained model; NaN where it could not be measured.
        controls: the same units under the control, or ``None`` where the control is a constant or there is none.
        control: what the control is; empty where there is none.
        constant: the control's value where it is a constant, such as ½ for an AUC.
        note: a remark for the reader; where nothing could be measured, why not.
    """

    goal: Goal
    attack: str
    name: str
    values: np.ndarray
    controls: np.ndarray | None = None
    control: str = ""
    constant: float | None = None
    note: str = ""

    @property
    def interval(self) -> Interval:
        """Over the units."""
        return mean_interval(self.values)

    @property
    def control_interval(self) -> Interval:
        """Of the control, over the units that were measured; NaN where there is none."""
        if self.constant is not None:
            return Interval(self.constant, self.constant, self.constant)
        if self.controls is None:
            return mean_interval(np.array([]))
        return mean_interval(np.where(np.isfinite(self.values), self.controls, np.nan))

    @property
    def gain(self) -> Interval:
        """Value minus control, paired by unit; NaN without a control."""
        if self.constant is not None:
            return mean_interval(np.asarray(self.values, float) - self.constant)
        if self.controls is None:
            return mean_interval(np.array([]))
        return mean_interval(np.asarray(self.values, float) - self.controls)


@dataclass(frozen=True, eq=False)
class Curve:
    """A line of a plot: ``y`` ``[points]`` over ``x`` ``[points]``; curves of one ``plot`` share axes."""

    plot: str
    name: str
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class AttackResult:
    """Figures and curves of one attack on one victim."""

    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
