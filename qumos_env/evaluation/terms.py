"""The terms of a reward: what each of them is handed, what it says, and the registry that the evaluator asks.

A term is a function from a ``Subject`` to a ``TermResult``, registered under the name that the reward's weights use. It is measured
where the scenario weighs it, or always if its measurement belongs to every report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..errors import unknown
from ..scenario import Scenario
from .reward import Standing
from .service import Service
from .statistics import standard_error
from .workload import Control, PreparedDraw, Rows

Fact = str | float | int | bool | None | dict[str, float]


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained service and the rows that terms measure it on.

    Attributes:
        service: K trained models of the design, one per draw.
        draws: the K draws, prepared.
        rows: which rows are scored.
    """

    service: Service
    draws: tuple[PreparedDraw, ...]
    rows: Rows

    @property
    def scenario(self) -> Scenario:
        """The scenario."""
        return self.service.scenario

    def together(self, name: str) -> np.ndarray:
        """The field ``name`` of all draws, ``[K, ...]``."""
        return np.stack([getattr(draw, name) for draw in self.draws])

    def keys(self, use: str) -> Sequence[Sequence[int]]:
        """Seeds, one per draw, for the randomness that ``use`` names."""
        return self.service.keys(use)

    def answers(self, name: str) -> np.ndarray:
        """What the service answers to the encoded rows in the draws' field ``name``, ``[K, rows, classes]``.

        Everyone meets the service as it runs, with its noise and the design's shots; training and a thief's own runs are exact.
        """
        return self.answers_to(self.together(name), f"answers to {name}")

    def answers_to(self, encoded: np.ndarray, use: str) -> np.ndarray:
        """The same of ``encoded`` rows ``[K, rows, n_qubits]``; ``use`` says what they are for, and seeds shots."""
        return self.service.model.answers(self.service.trained, encoded, self.keys(use))

    @cached_property
    def accuracy(self) -> np.ndarray:
        """Accuracy of the service on the scored rows of every draw, ``[K]``."""
        return np.mean(self.answers("score").argmax(axis=-1) == self.together("score_labels"), axis=-1)

    @cached_property
    def chance(self) -> float:
        """Majority frequency of the scored rows, averaged over draws."""
        return float(np.mean([np.bincount(labels).max() / len(labels) for labels in self.together("score_labels")]))

    @cached_property
    def control(self) -> Control:
        """C*, what a thief's rows give without loot."""
        return self.service.workload.control(self.service.seed, self.rows)

    @cached_property
    def units(self) -> np.ndarray:
        """For every draw the number of the independent unit it belongs to, int ``[K]``.

        With ``half_split`` the two draws of a pair share their pool, one's members being the other's non-members: one unit.
        """
        return np.arange(len(self.draws)) // (2 if self.scenario.draws.half_split else 1)

    def standard_error(self, values: np.ndarray) -> float:
        """Standard error of the mean of one value per draw."""
        return standard_error(values, self.units)


Means = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class TermResult:
    """What a term says of a subject.

    Attributes:
        draws: name -> one value per draw, ``[K]``; their means and standard errors are reported under these names.
        share: the worth of the term at weight 1, from the standing of the model and the means of ``draws``. It is asked again with
            draws left out, for the jackknife.
        facts: what else is reported, by name.
    """

    draws: Mapping[str, np.ndarray]
    share: Callable[[Standing, Means], float]
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True)
class Term:
    """One term of a reward.

    Attributes:
        name: its weight's name in the scenario.
        measure: what it measures of a subject.
        always: measured even where it has no weight.
    """

    name: str
    measure: Callable[[Subject], TermResult]
    always: bool = False


TERMS: dict[str, Term] = {}


def term(name: str, *, always: bool = False) -> Callable[[Callable[[Subject], TermResult]], Callable[[Subject], TermResult]]:
    """Registers the decorated function as the term ``name``."""

    def register(measure: Callable[[Subject], TermResult]) -> Callable[[Subject], TermResult]:
        TERMS[name] = Term(name, measure, always)
        return measure

    return register


def terms_of(scenario: Scenario) -> list[Term]:
    """The terms that an evaluation in ``scenario`` measures, in the order in which their shares are reported and added up.

    That is the order of the scenario's weights, not of registration: which module was imported first must not decide about a last bit.

    Raises:
        QumosError: the scenario weighs a term that is not registered.
    """
    for name in scenario.reward.others:
        if name not in TERMS:
            raise unknown("reward term", name, TERMS)
    weighed = scenario.reward.terms
    names = [*(name for name in weighed if name in TERMS), *sorted(TERMS.keys() - set(weighed))]
    return [TERMS[name] for name in names if TERMS[name].always or scenario.reward.weight(name)]
