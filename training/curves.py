"""How a search went, read from its trials: what it measured, and the best so far.

Rewards of different numbers of draws cannot be compared: whatever is called best was measured with all draws of the scenario.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agents.protocol import Trial, full_draws
from qumos_env.scenario import Scenario

SPENT = "trained models, as designs measured with all draws"


@dataclass(frozen=True)
class Point:
    """A measurement of a search: what had been spent by then, in full evaluations, the reward, and whether all draws were taken."""

    spent: float
    reward: float
    full: bool


def measured(scenario: Scenario, trials: Sequence[Trial]) -> list[Point]:
    """The measurements of a search, in their order; one of a design that was measured before with fewer draws costs the new ones."""
    draws: dict[str, int] = {}
    spent = 0
    points = []
    for trial in trials:
        if trial.design_hash and not trial.repeated:
            spent += trial.draws_of(scenario) - draws.get(trial.design_hash, 0)
            draws[trial.design_hash] = trial.draws_of(scenario)
            points.append(Point(spent / full_draws(scenario), trial.reward, trial.is_full(scenario)))
    return points


def best_per_design(scenario: Scenario, trials: Sequence[Trial]) -> list[float]:
    """For 1, 2, ... designs' worth of draws the best reward found by then with all draws; NaN while there is none."""
    points = measured(scenario, trials)
    best: list[float] = []
    for point in points:
        # What a measurement gives is there once it is paid for.
        best += [best[-1] if best else math.nan] * (math.ceil(point.spent) - len(best))
        if point.full:
            best[-1] = point.reward if math.isnan(best[-1]) else max(best[-1], point.reward)
    return best


def search_best(scenario: Scenario, trials: Sequence[Trial]) -> float:
    """The highest reward of a design measured with all draws; of any design where there is none such."""
    return max(trials, key=lambda trial: (trial.is_full(scenario), trial.reward)).reward


def best_so_far(rewards: Sequence[float]) -> list[float]:
    """Running maximum."""
    best: list[float] = []
    for reward in rewards:
        best.append(max(reward, best[-1] if best else reward))
    return best


def top_ten(scenario: Scenario, trials: Sequence[Trial], size: int = 10) -> list[float]:
    """For 1, 2, ... designs' worth of draws the mean of the ``size`` best designs found by then with all draws.

    Missing ones count 0, as in the PMO benchmark (Gao et al., *Sample efficiency matters*, 2022), which takes the area under this curve: it
    rewards a search that finds good designs early, and many of them.
    """
    found: list[float] = []
    best: list[float] = []
    for point in measured(scenario, trials):
        found += [found[-1] if found else 0.0] * (math.ceil(point.spent) - len(found))
        if point.full:
            best = sorted([*best, point.reward], reverse=True)[:size]
            found[-1] = math.fsum(best) / size
    return found


def area_under(curve: Sequence[float], budget: int) -> float:
    """Mean of ``curve`` over ``budget`` designs; a search that ended early keeps what it had."""
    padded = [*curve[:budget], *([curve[-1] if curve else 0.0] * (budget - len(curve)))]
    return math.fsum(padded) / budget
