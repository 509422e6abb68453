"""Random search with successive halving: many random designs with few draws, the promising ones again with more."""

from __future__ import annotations

import numpy as np

from qumos_env.scenario import Scenario

from .ask_tell import Proposal, ask_tell_search
from .protocol import Outcome
from .racing import Ladder
from .sequences import balanced_actions
from .settings import RacingSettings

AGENT = "random-halving"


class Settings(RacingSettings):
    """Settings of random search with successive halving.

    Attributes:
        warm_start: evaluate the hand-made designs first; off, or it would not be random search.
        racing: whether it halves at all; without, it is random search.
        first_draws: draws of the first look.
        promoted: share of the designs that are measured again with more draws, at every rung.
        lag: designs under way at a time.
    """

    racing: bool = True


class HalvingSearcher:
    """Asks for whatever deserves more draws, else for a random design."""

    def __init__(self, scenario: Scenario, settings: Settings, seed: int) -> None:
        self._scenario = scenario
        self._ladder = Ladder(scenario, settings)
        self._rng = np.random.default_rng(seed)

    def ask(self) -> Proposal:
        """A promotion or a random design."""
        return self._ladder.promotion() or self._ladder.entry(tuple(balanced_actions(self._scenario, self._rng)))

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Files the reward on its rung."""
        self._ladder.tell(proposal, outcome)


search = ask_tell_search(AGENT, Settings, lambda task, settings: HalvingSearcher(task.scenario, settings, task.seed))
