"""The registry of cases, and what a case returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Target:
    """What a measured median is held against: at least ``at_least``, or below ``below``."""

    at_least: float | None = None
    below: float | None = None

    def reached(self, median: float) -> bool:
        """Whether ``median`` meets the target."""
        return (self.at_least is None or median >= self.at_least) and (self.below is None or median < self.below)

    def __str__(self) -> str:
        return f">= {self.at_least:g}" if self.at_least is not None else f"< {self.below:g}"


@dataclass(frozen=True)
class Row:
    """One measured quantity.

    Attributes:
        quantity: what was measured.
        unit: of the values.
        values: one per repeat; none where it could not be measured.
        target: what the median should be, if the project promises something.
        missing: why it could not be measured, in one line.
    """

    quantity: str
    unit: str
    values: Sequence[float]
    target: Target | None = None
    missing: str = ""

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median, upper quartile over the repeats."""
        lower, median, upper = np.quantile(np.asarray(self.values), [0.25, 0.5, 0.75])
        return float(lower), float(median), float(upper)

    @property
    def reached(self) -> bool | None:
        """Whether the median meets the target; ``None`` without one, or without a measurement."""
        return None if self.target is None or not len(self.values) else self.target.reached(self.quartiles[1])


@dataclass(frozen=True)
class Outcome:
    """What a case measured: its rows, remarks for the reader, and the versions of the libraries it compared with."""

    rows: Sequence[Row]
    notes: Sequence[str] = ()
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A benchmark: ``run(repeats)`` measures it."""

    name: str
    title: str
    run: Callable[[int], Outcome]


CASES: dict[str, Case] = {}


def case(name: str, title: str) -> Callable[[Callable[[int], Outcome]], Callable[[int], Outcome]]:
    """Registers the decorated function, which takes the number of repeats, as the case ``name``."""

    def register(run: Callable[[int], Outcome]) -> Callable[[int], Outcome]:
        CASES[name] = Case(name, title, run)
        return run

    return register
