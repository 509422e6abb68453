"""What a run found, as ``results.json`` holds it and tables and reports show it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from agents.protocol import Stop
from qumos_env import Design
from qumos_env.evaluation.statistics import Interval
from qumos_env.records import LARGEST, Record

Measured = Annotated[float, Field(ge=-1e15, le=1e15)]
Maybe = Measured | None
"""``None`` where nothing was measured."""
Name = Annotated[str, Field(max_length=200)]
Whole = Annotated[int, Field(ge=0, le=LARGEST)]


def finite(value: Any) -> Any:
    """``value`` with NaN and infinities, which JSON lacks, replaced by ``None``, and tuples and lists alike."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(finite(item) for item in value)
    return value


class Range(Record):
    """A mean and the limits of its 95 % interval, which a single value has not."""

    mean: Maybe
    low: Maybe
    high: Maybe

    @property
    def interval(self) -> Interval:
        """With NaN for what is not there."""
        return Interval(*(float("nan") if value is None else value for value in (self.mean, self.low, self.high)))


class Score(Record):
    """A design with what it scored under several seeds.

    Attributes:
        name: what the tables call it.
        design, design_hash: the design.
        within_limits: whether it keeps the limits of the scenario.
        reward, reward_interval: the mean over the seeds, and its 95 % interval.
        rewards: one per seed; 0 where the evaluation broke down.
        failures: how many evaluations broke down.
        nothing_worth_stealing: in what share of the others the thief's own rows did as well as the model.
        accuracy, theft, control, theft_gain, membership_auc, cost: means over the others.
    """

    name: Name
    design: dict[str, object]
    design_hash: Name
    within_limits: bool
    reward: Measured
    reward_interval: tuple[Maybe, Maybe]
    rewards: tuple[Measured, ...]
    failures: Whole
    nothing_worth_stealing: Maybe
    accuracy: Maybe
    theft: Maybe
    control: Maybe
    theft_gain: Maybe
    membership_auc: Maybe
    cost: Maybe

    @field_validator("design")
    @classmethod
    def _is_a_design(cls, value: dict[str, object]) -> dict[str, object]:
        Design.from_dict(value)
        return value

    @property
    def interval(self) -> Interval:
        """Mean reward and its 95 % interval over the seeds."""
        low, high = self.reward_interval
        return Range(mean=self.reward, low=low, high=high).interval


class FrontPoint(Record):
    """A design of a search that no other one of it beats in accuracy, security and cost at once.

    Attributes:
        design, design_hash: the design.
        accuracy, security, cost: as in ``agents.objectives``, on the search rows, so luck still shows on them.
        reward: its search reward.
    """

    design: dict[str, object]
    design_hash: Name
    accuracy: Measured
    security: Measured
    cost: Measured
    reward: Measured

    @field_validator("design")
    @classmethod
    def _is_a_design(cls, value: dict[str, object]) -> dict[str, object]:
        Design.from_dict(value)
        return value


class Results(Record):
    """What a run found.

    Attributes:
        distinct, episodes, stopped: the counts of the search, and why it ended.
        draws: models it trained; ``None`` in results that did not count them.
        search_seconds: its duration.
        search_best: highest search reward of a design measured with all draws (of any, where there is none such), on which the winner's
            luck still shows.
        winner: the winner of the race, scored on the test split.
        race: the contenders of the race, scored on the search rows.
        hand_made: the hand-made designs, scored on the test split.
        random: the winner of the race among the random designs, scored on the test split.
        best_hand_made: name of the best one that keeps the limits.
        winner_is_hand_made: name of the hand-made design that the winner is, if it is one.
        winner_minus_best_hand_made, winner_minus_random: mean differences per seed.
        front: the designs that no other one beats in accuracy, security and cost at once, the most accurate first.
    """

    distinct: Whole
    episodes: Whole
    stopped: Stop
    search_seconds: Annotated[float, Field(ge=0, le=1e9)]
    search_best: Measured
    winner: Score
    race: tuple[Score, ...]
    hand_made: tuple[Score, ...]
    random: Score | None
    best_hand_made: Name | None
    winner_is_hand_made: Name | None
    winner_minus_best_hand_made: Range | None = None
    winner_minus_random: Range | None = None
    draws: Whole | None = None
    front: tuple[FrontPoint, ...] = ()

    @property
    def rivals(self) -> list[Score]:
        """What the winner is set beside, best first."""
        others = [*self.hand_made, *([self.random] if self.random is not None else [])]
        return sorted(others, key=lambda score: -score.reward)
