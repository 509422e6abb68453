"""Several agents at equal budget, over several seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from agents.baselines import baselines
from agents.pool import EvaluationPool
from qumos_env.errors import QumosError
from qumos_env.files import check_target

from .display import Display
from .report import best_so_far, distinct_rewards
from .rundir import CACHE, RUN, RunDirectory, RunPlan, read_json, write_json
from .scoring import Entrant, Scored, best_admissible, score
from .statistics import bootstrap_interval
from .tables import short
from .workflow import run_to_results

MARKER, PLOT = "compare.json", "compare.png"
HEADINGS = ("agent", "test reward (IQM)", "search", "acc.", "stolen", "designs", "eps.")


def compare(plans: Sequence[RunPlan], out: Path, display: Display, *, force: bool) -> dict[str, Any]:
    """Runs every plan in a folder of its own and scores the winners on the test split under the same seeds.

    With ``force`` an earlier comparison in ``out`` is continued: runs that are finished and have the same plan are kept.

    Returns:
        Plain JSON data, also written to ``compare.json``; the plot goes to ``compare.png``.

    Raises:
        QumosError: ``out`` holds something else, or a search fails.
    """
    check_target(out, ours=lambda found: () if (found / MARKER).is_file() else None, force=force)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / MARKER, {"state": "running"})
    runs: dict[str, list[dict[str, Any]]] = {}
    curves: dict[str, list[list[float]]] = {}
    for number, plan in enumerate(plans):
        folder = out / f"{plan.agent}-{plan.seed}"
        run, results = _finished(folder, plan)
        if run is None or results is None:
            display.note(f"run {number + 1} of {len(plans)}: {plan.agent}, seed {plan.seed}")
            check_target(folder, ours=lambda found: () if (found / RUN).is_file() else None, force=True)
            run = RunDirectory.create(folder, plan, force=True)
            run_to_results(run, display, with_references=False)
            results = run.results()
            if run.state != "done":
                raise QumosError(f"interrupted; continue with the same command and --force, finished runs in {out} are kept")
        runs.setdefault(plan.agent, []).append(results)
        curves.setdefault(plan.agent, []).append(best_so_far(distinct_rewards(run.trials())))
    hand_made = _hand_made(plans[0], out, display)
    data: dict[str, Any] = {
        "state": "done",
        "scenario": plans[0].scenario.name,
        "scenario_hash": plans[0].scenario.hash,
        "budget": plans[0].budget,
        "agents": {agent: _summary(results) for agent, results in runs.items()},
        "hand_made": [one.to_dict() for one in hand_made],
    }
    best = best_admissible(hand_made)
    comparison_figure(curves, f"{plans[0].scenario.name}, {len(plans) // len(runs)} seeds").savefig(out / PLOT)
    data["best_hand_made"] = best.name if best is not None else None
    write_json(out / MARKER, data)
    return data


def comparison_rows(data: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The comparison as rows of text: agents by test reward, then the hand-made designs."""
    rows = []
    for agent, summary in sorted(data["agents"].items(), key=lambda item: -item[1]["test_reward"]["iqm"]):
        reward = summary["test_reward"]
        limits = [float("nan") if reward[name] is None else reward[name] for name in ("low", "high")]
        interval = short(reward["iqm"]) + ("" if math.isnan(limits[0]) else f" [{short(limits[0])}, {short(limits[1])}]")
        figures = [short(float(np.mean(summary[name]))) for name in ("search_best", "accuracy", "theft")]
        counts = [f"{np.mean(summary[name]):.0f}" for name in ("distinct", "episodes")]
        rows.append((agent, interval, *figures, *counts))
    for one in sorted((one for one in data["hand_made"] if one["within_limits"]), key=lambda one: -one["reward"]):
        rows.append((one["name"], short(one["reward"]), "-", short(one["accuracy"]), short(one["theft"]), "-", "-"))
    return rows


def comparison_figure(curves: Mapping[str, Sequence[Sequence[float]]], title: str) -> Figure:
    """Best search reward so far against distinct designs: mean over seeds, with the range."""
    figure = Figure(figsize=(8, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for agent, runs in curves.items():
        length = min(len(run) for run in runs)
        stack = np.array([run[:length] for run in runs])
        numbers = np.arange(1, length + 1)
        (line,) = axes.plot(numbers, stack.mean(axis=0), label=agent)
        axes.fill_between(numbers, stack.min(axis=0), stack.max(axis=0), color=line.get_color(), alpha=0.15, lw=0)
    axes.set_xlabel("distinct designs evaluated")
    axes.set_ylabel("best search reward so far")
    axes.set_title(f"{title}; bands are the range over seeds", fontsize=10)
    axes.legend(frameon=False)
    return figure


def _finished(folder: Path, plan: RunPlan) -> tuple[RunDirectory | None, dict[str, Any] | None]:
    if not (folder / RUN).is_file():
        return None, None
    run = RunDirectory.open(folder)
    if run.state != "done" or replace(run.plan, workers=plan.workers).to_dict() != plan.to_dict():
        return None, None
    return run, read_json(folder / "results.json")


def _summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rewards = [one["winner"]["reward"] for one in results]
    interval = bootstrap_interval(rewards)
    return {
        "test_reward": {"iqm": interval.mean, "low": interval.low, "high": interval.high},
        "test_rewards": rewards,
        "search_best": [one["search_best"] for one in results],
        "accuracy": [one["winner"]["accuracy"] for one in results],
        "theft": [one["winner"]["theft"] for one in results],
        "distinct": [one["distinct"] for one in results],
        "episodes": [one["episodes"] for one in results],
        "seconds": [one["search_seconds"] for one in results],
    }


def _hand_made(plan: RunPlan, out: Path, display: Display) -> list[Scored]:
    entrants = [Entrant(baseline.name, baseline.design, baseline.limits) for baseline in baselines(plan.scenario)]
    with (
        EvaluationPool(plan.scenario, plan.workers, str((out / CACHE).resolve())) as pool,
        display.work("scoring the hand-made designs", len(entrants) * plan.test_seeds) as work,
    ):
        return score(pool, entrants, plan.test_seeds, work.at)
