"""From the trials of a search to figures that can be reported.

The best trial of a search is best partly by luck. So the best few designs are scored again with fresh seeds, still on the
search rows, in a race that spends its evaluations on the promising ones; the winner of that race, and nothing else of the
search, meets the test split. Seeds of races and tests are fixed numbers, the same for every design and run, so that
differences between designs are paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agents.pool import EvaluationPool, Job, Rows
from agents.protocol import Outcome, Trial
from qumos_env import Design
from qumos_env.errors import QumosError
from qumos_env.evaluation.statistics import Interval, mean_interval
from qumos_env.scenario import Scenario

from .results import Score, finite

RACE_SEED = 1_000_000
TEST_SEED = 2_000_000
ROUNDS = ((1.0, 2), (0.5, 4), (0.25, 8))
"""Successive halving: the share of the contenders that is still in the race, and the seeds each has been scored with after it."""


@dataclass(frozen=True)
class Scored:
    """A design with its evaluations under several seeds.

    Attributes:
        name: what the tables call it.
        design: the design.
        limits: whether it keeps the limits of the scenario.
        outcomes: one per seed.
    """

    name: str
    design: Design
    limits: bool
    outcomes: tuple[Outcome, ...]

    @property
    def rewards(self) -> tuple[float, ...]:
        """The reward under every seed; 0 where the evaluation broke down."""
        return tuple(outcome.reward for outcome in self.outcomes)

    @property
    def reward(self) -> Interval:
        """Mean reward and its 95 % interval over seeds."""
        return mean_interval(np.array(self.rewards))

    def mean(self, figure: str) -> float:
        """Mean of a figure of the evaluations that did not fail; NaN where all did."""
        values = [outcome.evaluation.get(figure) for outcome in self.outcomes if not outcome.failure]
        numbers = [float(value) for value in values if isinstance(value, (int, float))]
        return math.fsum(numbers) / len(numbers) if numbers else float("nan")

    @property
    def failures(self) -> int:
        """How many evaluations broke down."""
        return sum(bool(outcome.failure) for outcome in self.outcomes)

    def record(self) -> Score:
        """As it is kept and shown."""
        interval = self.reward
        figures = ("nothing_worth_stealing", "accuracy", "theft", "control", "theft_gain", "membership_auc", "cost")
        return Score(
            name=self.name,
            design=self.design.to_dict(),
            design_hash=self.design.hash,
            within_limits=self.limits,
            reward=interval.mean,
            reward_interval=finite((interval.low, interval.high)),
            rewards=self.rewards,
            failures=self.failures,
            **finite({figure: self.mean(figure) for figure in figures}),
        )


@dataclass(frozen=True)
class Entrant:
    """A design to be scored; ``limits`` as in ``Scored``."""

    name: str
    design: Design
    limits: bool = True


def contenders(scenario: Scenario, trials: Sequence[Trial], count: int) -> list[Design]:
    """The ``count`` distinct designs of highest search reward, best first, earlier ones first among equals.

    Rewards of different numbers of draws cannot be compared: designs measured with fewer than all of ``scenario`` come after those measured
    with all, and only fill up what these leave free. In the race all are measured alike.
    """
    best: dict[str, Trial] = {}
    for trial in trials:
        if trial.design_hash and not trial.failure and not trial.repeated:
            best[trial.design_hash] = trial  # the last has the most draws
    ranked = sorted(best.values(), key=lambda trial: (-trial.draws_of(scenario), -trial.reward, trial.index))
    return [Design.from_dict(trial.design) for trial in ranked[:count]]


def race(pool: EvaluationPool, designs: Sequence[Design], on_result: Callable[[int], None]) -> list[Scored]:
    """Scores ``designs`` on the search rows under fresh seeds, with all draws, by successive halving.

    Args:
        pool: where they are evaluated.
        designs: the contenders; those that break the limits of the scenario are scored as references.
        on_result: told after every evaluation how many are done, see ``race_length``.

    Returns:
        All contenders, those that stayed longest first, ordered by pooled mean among these; the first one has won.
    """
    outcomes: dict[str, list[Outcome]] = {design.hash: [] for design in designs}
    limits = {design.hash: keeps_limits(pool.scenario, design) for design in designs}
    standing = list(designs)
    dropped: list[Design] = []
    done = 0
    for share, seeds in ROUNDS:
        keep = max(1, math.ceil(share * len(designs)))
        dropped = standing[keep:] + dropped
        standing = standing[:keep]
        if len(standing) == 1 and outcomes[standing[0].hash]:
            break
        jobs = [
            (design, Job(design, RACE_SEED + seed, limits=limits[design.hash]))
            for design in standing
            for seed in range(len(outcomes[design.hash]), seeds)
        ]
        results = pool.run([job for _, job in jobs], lambda count, before=done: on_result(before + count))  # type: ignore[misc]
        done += len(jobs)
        for (design, _), outcome in zip(jobs, results, strict=True):
            outcomes[design.hash].append(outcome)
        standing.sort(key=lambda design: -_mean(outcomes[design.hash]))
    return [Scored(design.hash[:8], design, limits[design.hash], tuple(outcomes[design.hash])) for design in [*standing, *dropped]]


def keeps_limits(scenario: Scenario, design: Design) -> bool:
    """Whether ``design`` keeps the limits of ``scenario``, into which it fits."""
    try:
        scenario.check_design(design)
    except QumosError:
        return False
    return True


def race_length(count: int) -> int:
    """Evaluations of a race of ``count`` contenders, at most."""
    total, before = 0, 0
    for share, seeds in ROUNDS:
        total += max(1, math.ceil(share * count)) * (seeds - before)
        before = seeds
    return total


def score(
    pool: EvaluationPool, entrants: Sequence[Entrant], seeds: int, on_result: Callable[[int], None], rows: Rows = "test"
) -> list[Scored]:
    """Scores ``entrants`` under ``seeds`` fresh seeds, on the test split unless told otherwise."""
    jobs = [Job(entrant.design, TEST_SEED + seed, rows, entrant.limits) for entrant in entrants for seed in range(seeds)]
    results = pool.run(jobs, on_result)
    return [
        Scored(entrant.name, entrant.design, entrant.limits, tuple(results[number * seeds : (number + 1) * seeds]))
        for number, entrant in enumerate(entrants)
    ]


def best_admissible(scored: Sequence[Scored]) -> Scored | None:
    """The one with the highest mean reward among those that keep the scenario's limits.

    Chosen on the very figures that are reported, which favours the hand-made designs in a comparison with a winner that
    was not.
    """
    admissible = [one for one in scored if one.limits]
    return max(admissible, key=lambda one: one.reward.mean) if admissible else None


def paired_difference(first: Scored, second: Scored) -> Interval:
    """Mean of the difference ``first`` − ``second`` per seed, and its 95 % interval."""
    return mean_interval(np.subtract(first.rewards, second.rewards))


def _mean(outcomes: Sequence[Outcome]) -> float:
    return math.fsum(outcome.reward for outcome in outcomes) / len(outcomes)
