"""Random search: independent random designs, the yardstick of every other agent."""

from __future__ import annotations

import numpy as np

from qumos_env.scenario import Scenario

from .ask_tell import Proposal, ask_tell_search
from .protocol import Outcome
from .sequences import balanced_actions
from .settings import SearcherSettings

AGENT = "random"


class Settings(SearcherSettings):
    """Settings of random search.

    Attributes:
        warm_start: evaluate the hand-made designs first; off, or it would not be random search.
        lag: designs under way at a time.
    """


class RandomSearcher:
    """Asks for independent random designs, see ``sequences.balanced_actions`` for their distribution."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._rng = np.random.default_rng(seed)

    def ask(self) -> Proposal:
        """A random design."""
        return Proposal(tuple(balanced_actions(self._scenario, self._rng)))

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Learns nothing."""


search = ask_tell_search(AGENT, Settings, lambda task, settings: RandomSearcher(task.scenario, task.seed))
