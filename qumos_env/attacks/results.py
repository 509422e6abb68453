"""What attacks return: figures with their controls and intervals, and curves to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..evaluation.statistics import Interval, mean_interval

Goal = Literal["confidentiality", "integrity", "availability"]


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
