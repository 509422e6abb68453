"""What a comparison found, as its ``results.json`` holds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from qumos_env.records import LARGEST, Record

from ..results import Measured, Name, Score, Whole

State = Literal["running", "done"]
Curve = tuple[Measured | None, ...]


class AgentRuns(Record):
    """The runs of one agent in one scenario, in the order of their seeds.

    Attributes:
        winners: the winner of every run, scored on the test split.
        search_best: of every run the highest search reward, on which luck still shows.
        distinct, draws, episodes, seconds: of every search.
        top_ten: of every run the mean, over the budget, of the ten best designs found by then.
        curve: best search reward so far for 1, 2, ... designs' worth of draws, averaged over the runs; ``None`` where a run has none yet.
    """

    winners: tuple[Score, ...]
    search_best: tuple[Measured, ...]
    distinct: tuple[Whole, ...]
    draws: tuple[Whole | None, ...]
    episodes: tuple[Whole, ...]
    seconds: tuple[Annotated[float, Field(ge=0, le=1e9)], ...]
    top_ten: tuple[Measured, ...]
    curve: Curve

    @property
    def rewards(self) -> np.ndarray:
        """Test reward of every run's winner, ``[runs]``."""
        return np.array([one.reward for one in self.winners])


class ScenarioResults(Record):
    """What the agents found in one scenario.

    Attributes:
        scenario_hash: of the problem.
        draws: K, the models that one full evaluation trains.
        agents: by name.
        hand_made: the hand-made designs, under the same test seeds.
    """

    scenario_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    draws: Annotated[int, Field(ge=1, le=LARGEST)]
    agents: dict[Name, AgentRuns]
    hand_made: tuple[Score, ...]

    @property
    def best_hand_made(self) -> Score | None:
        """The best of those that keep the scenario's limits."""
        return max((one for one in self.hand_made if one.within_limits), key=lambda one: one.reward, default=None)

    @property
    def unit(self) -> float:
        """The reward that counts as 1 where scenarios are taken together: that of the best run or hand-made design; never 0."""
        rewards = [float(runs.rewards.max()) for runs in self.agents.values()]
        best = self.best_hand_made
        found = max([*rewards, *([best.reward] if best is not None else [])])
        return found if found > 0 else 1.0


class Comparison(Record):
    """A comparison.

    Attributes:
        kind, schema_version, state: what this is, and whether it is finished.
        budget: of every search, in designs measured with all draws.
        seeds, test_seeds: runs per agent, and fresh seeds of every test score.
        command, versions: to repeat it.
        scenarios: by name.
    """

    kind: Literal["comparison"] = "comparison"
    schema_version: Literal[2] = 2
    state: State
    budget: Annotated[int, Field(ge=1, le=LARGEST)]
    seeds: Annotated[int, Field(ge=1, le=LARGEST)]
    test_seeds: Annotated[int, Field(ge=1, le=LARGEST)]
    command: tuple[Annotated[str, Field(max_length=10_000)], ...]
    versions: dict[str, str]
    scenarios: dict[Name, ScenarioResults]

    @property
    def agents(self) -> tuple[str, ...]:
        """Names of the agents, in the order in which they were asked for."""
        return tuple(dict.fromkeys(agent for one in self.scenarios.values() for agent in one.agents))

    def scores(self, agent: str) -> list[np.ndarray]:
        """Test rewards of ``agent`` in units of the best, one array ``[runs]`` per scenario."""
        return [one.agents[agent].rewards / one.unit for one in self.scenarios.values()]

    def reference(self) -> list[np.ndarray]:
        """The same of the best hand-made design, ``[1]`` each; 0 where there is none."""
        best = [(one.best_hand_made, one.unit) for one in self.scenarios.values()]
        return [np.array([0.0 if score is None else score.reward / unit]) for score, unit in best]


class Marker(Record, extra="ignore"):
    """What tells a comparison's ``results.json`` from another file of that name."""

    kind: Literal["comparison"]
    schema_version: Literal[2]


def mean_curve(curves: Sequence[Sequence[float]]) -> Curve:
    """The mean of ``curves`` point by point, as far as the shortest goes."""
    points = (math.fsum(values) / len(values) for values in zip(*curves, strict=False))
    return tuple(None if math.isnan(point) else point for point in points)
