"""Several agents at equal budget, over several seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure

from agents.baselines import baselines
from agents.pool import open_pool
from qumos_env.errors import QumosError
from qumos_env.files import check_target
from qumos_env.records import Record

from .curves import SPENT, best_per_design
from .display import Display
from .locking import LOCK, held
from .results import Results
from .rundir import CACHE, RUN, RunDirectory, RunPlan, folder_at, own_files, read_record, write_json, written
from .scoring import Entrant, Scored, best_admissible, score
from .statistics import bootstrap_interval
from .tables import short
from .workflow import run_to_results, sound_cache

MARKER, PLOT = "compare.json", "compare.png"
KIND, SCHEMA_VERSION = "comparison", 1
HEADINGS = ("agent", "test reward (IQM)", "search", "acc.", "stolen", "designs", "eps.")


class _Marker(Record, extra="ignore"):
    """What tells a comparison's ``compare.json`` from another file of that name."""

    kind: Literal["comparison"]
    schema_version: Literal[1]


def compare(plans: Sequence[RunPlan], out: Path, display: Display, *, force: bool, address: str | None = None) -> dict[str, Any]:
    """Runs every plan in a folder of its own and scores the winners on the test split under the same seeds.

    With ``force`` an earlier comparison in ``out`` is continued: runs that are finished and have the same plan are kept.

    Returns:
        Plain JSON data, also written to ``compare.json``; the plot goes to ``compare.png``.

    Raises:
        QumosError: ``out`` holds something else, another process works on it, or a search fails.
    """
    folder = folder_at(out)
    check_target(folder, ours=_files_of_comparison, force=force)
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        if (folder / MARKER).exists():
            # Somebody else's may have got there first.
            check_target(folder, ours=_files_of_comparison, force=force)
        own_files(folder, (MARKER, PLOT, CACHE))
        return _compare(plans, folder, display, address)


def _files_of_comparison(folder: Path) -> Collection[str] | None:
    return (MARKER,) if _is_comparison(folder) else None


def _is_comparison(folder: Path) -> bool:
    if [entry.name for entry in folder.iterdir()] == [LOCK]:
        return True
    try:
        read_record(_Marker, folder / MARKER)
    except QumosError:
        return False
    return True


def _compare(plans: Sequence[RunPlan], out: Path, display: Display, address: str | None) -> dict[str, Any]:
    header = {"kind": KIND, "schema_version": SCHEMA_VERSION}
    write_json(out / MARKER, header | {"state": "running"})
    runs: dict[str, list[Results]] = {}
    curves: dict[str, list[list[float]]] = {}
    for number, plan in enumerate(plans):
        folder = out / f"{plan.agent}-{plan.seed}"
        run = _finished(folder, plan)
        if run is None:
            display.note(f"run {number + 1} of {len(plans)}: {plan.agent}, seed {plan.seed}")
            with RunDirectory.create(folder, plan, force=True) as run:
                run_to_results(run, display, with_references=False, address=address)
            if run.state != "done":
                raise QumosError(f"interrupted; continue with the same command and --force, finished runs in {out} are kept")
        runs.setdefault(plan.agent, []).append(run.results())
        curves.setdefault(plan.agent, []).append(best_per_design(plan.scenario, run.trials()))
    hand_made = _hand_made(plans[0], out, display, address)
    data: dict[str, Any] = header | {
        "state": "done",
        "scenario": plans[0].scenario.name,
        "scenario_hash": plans[0].scenario.hash,
        "budget": plans[0].budget,
        "agents": {agent: _summary(results) for agent, results in runs.items()},
        "hand_made": [one.record().model_dump() for one in hand_made],
    }
    best = best_admissible(hand_made)
    with written(out / PLOT):
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
        measured = [np.array(summary[name], float) for name in ("search_best", "accuracy", "theft")]
        figures = [short(float(np.mean(values))) for values in measured]
        counts = [f"{np.mean(summary[name]):.0f}" for name in ("distinct", "episodes")]
        rows.append((agent, interval, *figures, *counts))
    for one in sorted((one for one in data["hand_made"] if one["within_limits"]), key=lambda one: -one["reward"]):
        rows.append((one["name"], short(one["reward"]), "-", short(one["accuracy"]), short(one["theft"]), "-", "-"))
    return rows


def comparison_figure(curves: Mapping[str, Sequence[Sequence[float]]], title: str) -> Figure:
    """Best search reward so far, of designs measured with all draws, against trained models: mean over seeds, with the range."""
    figure = Figure(figsize=(8, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for agent, runs in curves.items():
        length = min(len(run) for run in runs)
        stack = np.array([run[:length] for run in runs])
        numbers = np.arange(1, length + 1)
        (line,) = axes.plot(numbers, stack.mean(axis=0), label=agent)
        axes.fill_between(numbers, stack.min(axis=0), stack.max(axis=0), color=line.get_color(), alpha=0.15, lw=0)
    axes.set_xlabel(SPENT)
    axes.set_ylabel("best search reward so far")
    axes.set_title(f"{title}; bands are the range over seeds", fontsize=10)
    axes.legend(frameon=False)
    return figure


def _finished(folder: Path, plan: RunPlan) -> RunDirectory | None:
    """The run in ``folder``, if it is finished and did what ``plan`` says; how many processes it had does not matter."""
    if not (folder / RUN).is_file():
        return None
    run = RunDirectory.open(folder)
    same = run.plan.model_copy(update={"workers": plan.workers}) == plan
    return run if same and run.state == "done" else None


def _summary(results: Sequence[Results]) -> dict[str, Any]:
    rewards = [one.winner.reward for one in results]
    interval = bootstrap_interval(rewards)
    return {
        "test_reward": {"iqm": interval.mean, "low": interval.low, "high": interval.high},
        "test_rewards": rewards,
        "search_best": [one.search_best for one in results],
        "accuracy": [one.winner.accuracy for one in results],
        "theft": [one.winner.theft for one in results],
        "distinct": [one.distinct for one in results],
        "draws": [one.draws for one in results],
        "episodes": [one.episodes for one in results],
        "seconds": [one.search_seconds for one in results],
    }


def _hand_made(plan: RunPlan, out: Path, display: Display, address: str | None) -> list[Scored]:
    entrants = [Entrant(baseline.name, baseline.design, baseline.limits) for baseline in baselines(plan.scenario)]
    cache = sound_cache(str(out / CACHE), display)
    with (
        open_pool(plan.scenario, plan.workers, cache, address=address, limit=plan.evaluation_limit) as pool,
        display.work("scoring the hand-made designs", len(entrants) * plan.test_seeds) as work,
    ):
        return score(pool, entrants, plan.test_seeds, work.at)
