"""What attacks return: measurements beside their controls, and curves; and how a report is to show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from ..errors import QumosError, unknown
from ..evaluation.statistics import Interval, mean_interval


@dataclass(frozen=True)
class Plot:
    """Axes that curves share.

    Attributes:
        title: of the plot.
        x, y: labels of the axes.
        log_x, log_y: whether they are logarithmic.
        y_range: of the y axis; default that of the curves.
        guessing: whether the diagonal is drawn, on which guesses lie.
    """

    title: str
    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    y_range: tuple[float, float] | None = None
    guessing: bool = False


@dataclass(frozen=True, eq=False)
class Curve:
    """A line ``y`` ``[points]`` over ``x`` ``[points]``; curves of equal plots share axes."""

    plot: Plot
    name: str
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class BarChart:
    """Axes that measurements share which are drawn as bars, each with a mark for its control.

    Attributes:
        title: of the chart.
        x: what the length of a bar is.
        service: whether the service's own accuracy is drawn beside them.
    """

    title: str
    x: str
    service: bool = False


@dataclass(frozen=True, eq=False)
class Control:
    """What the adversary gets without the attack.

    Attributes:
        name: what it is.
        values: float ``[units]``, paired with those of the attack, or a constant, such as ½ for an AUC.
    """

    name: str
    values: np.ndarray | float


Bad = Literal["higher", "lower", "no higher"]
"""When a value is bad for the owner: above its control, below it, or not above it (what an owner's check finds, beside false alarms)."""
RELEVANT = 0.02
"""The least difference of two shares of rows, such as accuracies, that matters in practice: one row in fifty."""


@dataclass(frozen=True)
class Criterion:
    """How a verdict reads a measurement; what it makes of it is in ``qumos_env.audit.scorecard``.

    Attributes:
        bad: how a value stands to its control that is bad for the owner.
        relevant: the least gain that matters in practice, above 0, in the unit of the quantity.

    Raises:
        QumosError: there is no such way to be bad, or nothing that matters.
    """

    bad: Bad
    relevant: float = RELEVANT

    def __post_init__(self) -> None:
        if self.bad not in get_args(Bad):
            raise unknown("criterion", self.bad, get_args(Bad))
        if not 0 < self.relevant < np.inf:
            raise QumosError(f"a criterion's relevant gain is {self.relevant}, a number above 0 is needed")


@dataclass(frozen=True, eq=False)
class Measurement:
    """One quantity that an attack measured, once per trained model, beside what the adversary gets without it.

    Attributes:
        case: what was attacked, and how, such as ``aurora, fine-tune``.
        quantity: what was measured of it, such as ``accuracy``.
        values: float ``[units]``, one per trained model; NaN where it could not be measured.
        control: ``None`` where there is none.
        note: a remark for the reader; where nothing could be measured, why not.
        headline: whether it stands out in a report.
        chart: the bar chart that it is drawn in, if any.
        criterion: of the verdict that it takes part in. Where no measurement of an attack has one, its headlines are judged (all of
            them, if it marks none), by the criterion of its goal.
    """

    case: str
    quantity: str
    values: np.ndarray
    control: Control | None = None
    note: str = ""
    headline: bool = False
    chart: BarChart | None = None
    criterion: Criterion | None = None

    @property
    def name(self) -> str:
        """Case and quantity: what tells it from the other measurements of the attack."""
        return f"{self.case}: {self.quantity}" if self.quantity else self.case

    @property
    def controls(self) -> np.ndarray:
        """Of every unit, float ``[units]``; NaN without a control."""
        return np.broadcast_to(np.nan if self.control is None else self.control.values, self.values.shape)

    @property
    def interval(self) -> Interval:
        """Over the units."""
        return mean_interval(self.values)

    @property
    def control_interval(self) -> Interval:
        """Of the control, over the units that were measured; a constant has no width."""
        if self.control is not None and not isinstance(self.control.values, np.ndarray):
            return Interval(self.control.values, self.control.values, self.control.values)
        return mean_interval(np.where(np.isfinite(self.values), self.controls, np.nan))

    @property
    def gains(self) -> np.ndarray:
        """Value minus control of every unit, float ``[units]``; NaN without a control."""
        return np.asarray(self.values - self.controls)

    @property
    def gain(self) -> Interval:
        """Value minus control, paired by unit; NaN without a control."""
        return mean_interval(self.gains)


@dataclass(frozen=True)
class AttackResult:
    """Measurements and curves of one attack on one victim."""

    measurements: list[Measurement] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
