"""A comparison as tables: for a terminal, and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qumos_env.evaluation.statistics import Interval

from ..statistics import aggregate_iqm, bootstrap_interval, improvement_interval, stratified_interval
from .results import Comparison, ScenarioResults

HEADINGS = ("agent", "test reward (IQM)", "top ten", "acc.", "stolen", "models", "seconds")
AGGREGATE = ("agent", "IQM of all scenarios", "better than random")
YARDSTICK = "random"


def short(interval: Interval) -> str:
    """Such as ``.412 [.398, .426]``."""
    bounds = "" if math.isnan(interval.low) else f" [{_digits(interval.low)}, {_digits(interval.high)}]"
    return _digits(interval.mean) + bounds


def _digits(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)


def aggregate(data: Comparison) -> dict[str, Interval]:
    """The interquartile mean of every agent's test rewards over all scenarios, in units of the best of each; and of ``hand-made``."""
    found = {agent: stratified_interval(data.scores(agent), aggregate_iqm) for agent in data.agents}
    return found | {"hand-made": Interval(aggregate_iqm(data.reference()), math.nan, math.nan)}


def improvements(data: Comparison) -> dict[tuple[str, str], Interval]:
    """For every two agents how likely a run of the first is better than one of the second."""
    pairs = [(a, b) for a in data.agents for b in data.agents if a != b]
    return {pair: improvement_interval(data.scores(pair[0]), data.scores(pair[1])) for pair in pairs}


def aggregate_rows(data: Comparison) -> list[tuple[str, ...]]:
    """The agents over all scenarios, best first."""
    found = aggregate(data)
    ranked = sorted(found, key=lambda name: -found[name].mean)
    known = YARDSTICK in data.agents
    rows: list[tuple[str, ...]] = []
    for name in ranked:
        if known and name in data.agents and name != YARDSTICK:
            better = short(improvement_interval(data.scores(name), data.scores(YARDSTICK)))
        else:
            better = "-"
        rows.append((name, short(found[name]), better))
    return rows


def scenario_rows(one: ScenarioResults) -> list[tuple[str, ...]]:
    """One scenario: agents by test reward, then the hand-made designs."""
    rows: list[tuple[str, ...]] = []
    ranked = sorted(one.agents.items(), key=lambda item: -float(bootstrap_interval(item[1].rewards.tolist()).mean))
    for agent, runs in ranked:
        interval = bootstrap_interval(runs.rewards.tolist())
        accuracy, theft = (_mean([getattr(winner, name) for winner in runs.winners]) for name in ("accuracy", "theft"))
        models = _mean(list(runs.draws))
        rows.append(
            (
                agent,
                short(interval),
                _digits(float(np.mean(runs.top_ten))),
                _digits(accuracy),
                _digits(theft),
                "-" if math.isnan(models) else f"{models:.0f}",
                f"{np.mean(runs.seconds):.0f}",
            )
        )
    for design in sorted((one for one in one.hand_made if one.within_limits), key=lambda one: -one.reward):
        rows.append((design.name, short(design.interval), "-", _digits(_mean([design.accuracy])), _digits(_mean([design.theft])), "-", "-"))
    return rows


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else math.nan


def markdown(data: Comparison) -> str:
    """The comparison as a page of Markdown."""
    lines = [
        "# Comparison\n",
        f"{len(data.agents)} agents, {len(data.scenarios)} scenario(s), {data.seeds} run(s) each, {data.budget} designs' worth of draws; "
        f"winners scored on the test split under {data.test_seeds} fresh seeds. Intervals are 95 % bootstrap intervals over runs, of "
        "hand-made designs over seeds; top ten: mean over the budget of the ten best designs found by then, by search reward.\n",
        f"    {' '.join(data.command)}\n",
        "## All scenarios\n",
        "Test rewards in units of the best run or hand-made design of each scenario.\n",
        *_table(AGGREGATE, aggregate_rows(data)),
    ]
    for name, one in data.scenarios.items():
        lines += [f"\n## {name}\n", *_table(HEADINGS, scenario_rows(one))]
    return "\n".join(lines) + "\n"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}", *(f"| {' | '.join(row)} |" for row in rows)]
