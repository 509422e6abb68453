"""Random search: independent random designs, the yardstick of every other searcher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qumos_env.scenario import Scenario

from .ask_tell import LAG, run_ask_tell
from .protocol import SearchSummary, SearchTask, Trial
from .sequences import random_actions
from .settings import parse_settings


@dataclass(frozen=True)
class Settings:
    """Settings of random search.

    Attributes:
        warm_start: evaluate the hand-made designs first; off, or it would not be random search.
        lag: designs under way at a time.
    """

    warm_start: bool = False
    lag: int = LAG


class RandomSearcher:
    """Asks for independent random designs, see ``sequences.random_actions`` for their distribution."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._rng = np.random.default_rng(seed)

    def ask(self) -> list[int]:
        """A random design."""
        return random_actions(self._scenario, self._rng)

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
    settings = parse_settings(Settings, task.settings, "random")
    on_stage("starting workers")
    return run_ask_tell(task, RandomSearcher(task.scenario, task.seed), on_trial=on_trial, should_stop=should_stop, lag=settings.lag)
