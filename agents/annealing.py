"""Simulated annealing: a walk over designs that accepts worse ones, less and less often, and is warmed up again when it is cold.

Source: Kirkpatrick, Gelatt and Vecchi, *Optimization by simulated annealing* (1983). The schedule does not depend on the budget, so a
search can go on with a larger one.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from qumos_env.scenario import Scenario

from .ask_tell import Proposal, ask_tell_search
from .mutations import child
from .protocol import Outcome
from .racing import Actions
from .sequences import balanced_actions
from .settings import Count, SearcherSettings, Share

AGENT = "annealing"
ATTEMPTS = 20
Temperature = Annotated[float, Field(gt=0, le=1e3)]


class Settings(SearcherSettings):
    """Settings of simulated annealing.

    Attributes:
        opening: random designs, the best of which (or of the starting designs) is where the walk begins.
        hottest: temperature at first, in units of the reward: a design worse by so much is accepted with probability 1/e.
        coldest: temperature at which the walk goes back to its best design and is warmed up again.
        cooling: factor of the temperature after every design.
        mutations: mean number of mutations of a step; at least one is made.
        share_gates: share of mutations that edit gates; the others edit cut, assignment and shots.
        warm_start: evaluate the hand-made designs first, and begin with the best of them.
        lag: designs under way at a time.
    """

    opening: Count = 20
    hottest: Temperature = 0.02
    coldest: Temperature = 0.002
    cooling: Annotated[float, Field(gt=0, lt=1)] = 0.98
    mutations: Annotated[float, Field(ge=1, le=10_000)] = 1.2
    share_gates: Share = 0.75
    warm_start: bool = True

    @model_validator(mode="after")
    def _cools(self) -> Self:
        if self.coldest >= self.hottest:
            raise ValueError(f"coldest is {self.coldest}; less than hottest ({self.hottest}) is expected")
        return self


class AnnealingSearcher:
    """Asks for mutations of the current design, which others replace by Metropolis' rule."""

    def __init__(self, scenario: Scenario, settings: Settings, seed: int) -> None:
        self._scenario = scenario
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self._to_open = settings.opening
        self._asked: set[Actions] = set()
        self._steps: set[Actions] = set()
        self._current: tuple[float, Actions] | None = None
        self._best: tuple[float, Actions] | None = None
        self.temperature = settings.hottest

    def ask(self) -> Proposal:
        """A random design of the opening, or a neighbour of the current one."""
        if self._to_open > 0 or self._current is None:
            self._to_open -= 1
            actions = tuple(balanced_actions(self._scenario, self._rng))
        else:
            for _ in range(ATTEMPTS):
                actions = child(self._scenario, self._current[1], self._settings.mutations, self._settings.share_gates, self._rng)
                if actions not in self._asked:
                    break
            self._steps.add(actions)
        self._asked.add(actions)
        return Proposal(actions)

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Accepts a step or does not, and cools down; of what opens the search the best is kept."""
        found = (outcome.reward, proposal.actions)
        if self._best is None or found[0] > self._best[0]:
            self._best = found
        if proposal.actions not in self._steps or self._current is None:
            self._current = self._best
            return
        loss = self._current[0] - found[0]
        if loss <= 0 or self._rng.random() < math.exp(-loss / self.temperature):
            self._current = found
        self.temperature *= self._settings.cooling
        if self.temperature < self._settings.coldest:
            self.temperature = self._settings.hottest
            self._current = self._best


search = ask_tell_search(AGENT, Settings, lambda task, settings: AnnealingSearcher(task.scenario, settings, task.seed))
