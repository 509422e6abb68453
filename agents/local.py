"""Local search with restarts: climb by single mutations until nothing near is better, then begin elsewhere.

A restart is a random design, or the best so far after several mutations at once (iterated local search: Lourenço, Martin and Stützle,
*Iterated local search*, 2003).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from qumos_env.scenario import Scenario

from .ask_tell import Proposal, ask_tell_search
from .mutations import child
from .protocol import Outcome
from .racing import Actions
from .sequences import balanced_actions
from .settings import Count, SearcherSettings, Share

AGENT = "local"
ATTEMPTS = 20


class Settings(SearcherSettings):
    """Settings of local search.

    Attributes:
        opening: random designs, the best of which (or of the starting designs) is where the first climb begins.
        patience: neighbours in a row that are no better before the climb is over.
        mutations: mean number of mutations of a neighbour; at least one is made.
        share_gates: share of mutations that edit gates; the others edit cut, assignment and shots.
        kick: mutations of the best design so far with which a climb begins anew.
        random_restarts: share of the climbs that begin from a random design instead.
        warm_start: evaluate the hand-made designs first, and begin with the best of them.
        lag: designs under way at a time.
    """

    opening: Count = 20
    patience: Count = 40
    mutations: Annotated[float, Field(ge=1, le=10_000)] = 1.2
    share_gates: Share = 0.75
    kick: Count = 4
    random_restarts: Share = 0.25
    warm_start: bool = True


class LocalSearcher:
    """Asks for mutations of the current design, which the first better one replaces."""

    def __init__(self, scenario: Scenario, settings: Settings, seed: int) -> None:
        self._scenario = scenario
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self._to_open = settings.opening
        self._climb = 0
        self._climb_of: dict[Actions, int] = {}
        self._current: tuple[float, Actions] | None = None
        self._best: tuple[float, Actions] | None = None
        self._failed = 0

    def ask(self) -> Proposal:
        """A random design of the opening, or a neighbour of the current one; the first of a climb is where it begins."""
        if self._to_open > 0 or self._best is None:
            self._to_open -= 1
            return self._from(tuple(balanced_actions(self._scenario, self._rng)))
        if self._failed >= self._settings.patience:
            self._failed = 0
            self._climb += 1
            self._current = None
            if self._rng.random() < self._settings.random_restarts:
                return self._from(tuple(balanced_actions(self._scenario, self._rng)))
            return self._from(self._neighbour(self._best[1], self._settings.kick))
        # What began the climb may still be under way.
        return self._from(self._neighbour((self._current or self._best)[1], self._settings.mutations))

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Moves to a better design of the same climb."""
        found = (outcome.reward, proposal.actions)
        if self._best is None or found[0] > self._best[0]:
            self._best = found
        if self._climb_of.get(proposal.actions, self._climb) != self._climb:
            return  # asked for before the climb began
        if self._current is None or found[0] > self._current[0]:
            self._current = found
            self._failed = 0
        elif self._to_open <= 0:
            self._failed += 1

    def _from(self, actions: Actions) -> Proposal:
        self._climb_of[actions] = self._climb
        return Proposal(actions)

    def _neighbour(self, actions: Actions, mutations: float) -> Actions:
        found = actions
        for _ in range(ATTEMPTS):
            found = child(self._scenario, actions, mutations, self._settings.share_gates, self._rng)
            if found not in self._climb_of:
                break
        return found


search = ask_tell_search(AGENT, Settings, lambda task, settings: LocalSearcher(task.scenario, settings, task.seed))
