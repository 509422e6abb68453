"""The terms of a reward: what each of them observes of every draw, what it makes of all draws, and the registry that the evaluator asks.

A term is registered under the name that the reward's weights use, and measured where the scenario weighs it, or always if its measurement
belongs to every report. It has two halves. What it *observes* of a draw does not depend on the other draws, so that a design measured on a
few draws can be measured on more without doing these again. Then it *judges* the observations of all draws together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..design import Design
from ..errors import unknown
from ..scenario import Scenario
from .queries import Questions
from .reward import Standing
from .service import Service
from .statistics import standard_error
from .surrogates.models import Ground
from .workload import Control, PreparedDraw, Rows, Workload

Fact = str | float | int | bool | None | dict[str, float]
Observed = Mapping[str, np.ndarray]
"""name -> what was observed of every draw, float64 ``[draws, ...]``."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained service and the rows that terms observe it on.

    Attributes:
        service: trained models of the design, one per draw.
        draws: these draws, prepared.
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
        """The field ``name`` of all draws, ``[draws, ...]``."""
        return _together(self.draws, name)

    def keys(self, use: str) -> Sequence[Sequence[int]]:
        """Seeds, one per draw, for the randomness that ``use`` names."""
        return self.service.keys(use)

    @property
    def ground(self) -> Ground:
        """What the features of the thief's rows and its targets give in these draws."""
        return self.service.workload.ground(self.service.seed, self.rows, self.service.numbers)

    @property
    def questions(self) -> Questions:
        """What a customer asks in these draws."""
        return self.service.workload.questions(self.service.seed, self.rows, self.service.numbers)

    def answers(self, name: str) -> np.ndarray:
        """What the service answers to the encoded rows in the draws' field ``name``, ``[draws, rows, classes]``.

        Everyone meets the service as it runs, with its noise and the design's shots; training and a thief's own runs are exact.
        """
        return self.answers_to(self.together(name), f"answers to {name}")

    def answers_to(self, encoded: np.ndarray, use: str) -> np.ndarray:
        """The same of ``encoded`` rows ``[draws, rows, n_qubits]``; ``use`` says what they are for, and seeds shots."""
        return self.service.model.answers(self.service.trained, encoded, self.keys(use))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the terms observed of a design on K draws.

    Attributes:
        design: the design.
        workload: of the scenario.
        seed, rows: of the draws, and which rows are scored.
        draws: the K draws, prepared.
        observed: what every term observed, by its name.
    """

    design: Design
    workload: Workload
    seed: int
    rows: Rows
    draws: tuple[PreparedDraw, ...]
    observed: Mapping[str, Observed]

    @property
    def scenario(self) -> Scenario:
        """The scenario."""
        return self.workload.scenario

    def together(self, name: str) -> np.ndarray:
        """The field ``name`` of all draws, ``[K, ...]``."""
        return _together(self.draws, name)

    @property
    def accuracy(self) -> np.ndarray:
        """Accuracy of the service on the scored rows of every draw, ``[K]``."""
        return self.observed["accuracy"]["accuracy"]

    @cached_property
    def chance(self) -> float:
        """Majority frequency of the scored rows, averaged over draws."""
        return float(np.mean([np.bincount(labels).max() / len(labels) for labels in self.together("score_labels")]))

    @cached_property
    def control(self) -> Control:
        """C*, what a thief's rows give without loot."""
        return self.workload.control(self.seed, self.rows, len(self.draws))

    @cached_property
    def units(self) -> np.ndarray:
        """For every draw the number of the independent unit it belongs to, int ``[K]``.

        With ``half_split`` the two draws of a pair share their pool, one's members being the other's non-members: one unit.
        """
        return np.arange(len(self.draws)) // (2 if self.scenario.draws.half_split else 1)

    def standard_error(self, values: np.ndarray) -> float:
        """Standard error of the mean of one value per draw."""
        return standard_error(values, self.units)


def _together(draws: Sequence[PreparedDraw], name: str) -> np.ndarray:
    return np.stack([getattr(draw, name) for draw in draws])


Means = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class TermResult:
    """What a term says of a design.

    Attributes:
        draws: name -> one value per draw, ``[K]``; their means and standard errors are reported under these names.
        share: the worth of the term at weight 1, from the standing of the model and the means of ``draws``. It is asked again with
            draws left out, for the jackknife.
        facts: what else is reported, by name.
    """

    draws: Mapping[str, np.ndarray]
    share: Callable[[Standing, Means], float]
    facts: Mapping[str, Fact] = field(default_factory=dict)


Observe = Callable[[Subject], Observed]
Judge = Callable[[Evidence, Observed], TermResult]


def _nothing(_: Subject) -> Observed:
    return {}


@dataclass(frozen=True)
class Term:
    """One term of a reward.

    Attributes:
        name: its weight's name in the scenario.
        judge: what it makes of what it observed of all draws.
        observe: what it observes of some draws, each by itself.
        always: measured even where it has no weight.
    """

    name: str
    judge: Judge
    observe: Observe = _nothing
    always: bool = False


TERMS: dict[str, Term] = {}


def term(name: str, *, observe: Observe = _nothing, always: bool = False) -> Callable[[Judge], Judge]:
    """Registers the decorated function, which judges what ``observe`` found, as the term ``name``."""

    def register(judge: Judge) -> Judge:
        TERMS[name] = Term(name, judge, observe, always)
        return judge

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
