"""Random search: independent random designs, the yardstick of every other agent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qumos_env.scenario import Scenario

from .ask_tell import LAG, run_ask_tell
from .protocol import SearchSummary, SearchTask, Trial
from .sequences import balanced_actions
from .settings import AgentSettings, Count, parse_settings

AGENT = "random"


class Settings(AgentSettings):
    """Settings of random search.

    Attributes:
        warm_start: evaluate the hand-made designs first; off, or it would not be random search.
        lag: designs under way at a time.
    """

    lag: Count = LAG


class RandomSearcher:
    """Asks for independent random designs, see ``sequences.balanced_actions`` for their distribution."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._rng = np.random.default_rng(seed)

    def ask(self) -> list[int]:
        """A random design."""
        return balanced_actions(self._scenario, self._rng)

    def tell(self, actions: list[int], reward: float) -> None:
        """Learns nothing."""


def search(
    task: SearchTask,
    *,
    on_trial: Callable[[Trial], None],
    should_stop: Callable[[], bool],
    on_stage: Callable[[str], None],
) -> SearchSummary:
    """Random search; see ``protocol.Search``."""
    settings = parse_settings(Settings, task.settings, AGENT)
    searcher = RandomSearcher(task.scenario, task.seed)
    return run_ask_tell(task, searcher, on_trial=on_trial, should_stop=should_stop, on_stage=on_stage, lag=settings.lag)
