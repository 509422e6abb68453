"""What a table says: how far its noise lets any search come, its best designs, and how fast agents approach them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import kendalltau

from agents import SearchTask, Trial, load_agent
from agents.protocol import full_draws
from qumos_env.env.actions import DesignState
from qumos_env.errors import QumosError
from qumos_env.evaluation.statistics import Interval, mean_interval
from qumos_env.evaluation.table import Table, read_table
from qumos_env.files import write_text
from qumos_env.scenario import Scenario, looked_up, parse_scenario

from .display import Display
from .rundir import folder_at, written

REPORT, DISTRIBUTION, REGRET = "table.md", "distribution.png", "regret.png"
SHOWN = 10
_SEARCH, _TEST = 0, 1


@dataclass(frozen=True)
class Ceiling:
    """Kendall's tau of the rewards of all designs, as means over seeds: how well one measurement ranks them as another does.

    Attributes:
        draws: of the measurement.
        seeds: with the same draws under another seed; NaN where there is one seed.
        full: with all draws under the same seed.
        other_full: with all draws under another seed.
        test: with all draws on the test split, under the same seed.
    """

    draws: int
    seeds: float
    full: float
    other_full: float
    test: float


def noise_ceiling(table: Table) -> list[Ceiling]:
    """For every number of draws of ``table``, fewest first."""
    rewards = np.nan_to_num(table.columns["reward"].astype(float))
    places = range(len(table.manifest.seeds))

    def mean(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> float:
        found = [float(kendalltau(one, other).statistic) for one, other in pairs]
        return float(np.mean(found)) if found else float("nan")

    rows = []
    for level, draws in enumerate(table.manifest.draw_levels):
        mine = rewards[:, :, _SEARCH, level]
        full, test = rewards[:, :, _SEARCH, -1], rewards[:, :, _TEST, -1]
        rows.append(
            Ceiling(
                draws,
                mean((mine[:, a], mine[:, b]) for a in places for b in places if a < b),
                mean((mine[:, a], full[:, a]) for a in places),
                mean((mine[:, a], full[:, b]) for a in places for b in places if a != b),
                mean((mine[:, a], test[:, a]) for a in places),
            )
        )
    return rows


@dataclass(frozen=True)
class Searched:
    """One search on a table.

    Attributes:
        agent, seed: who searched.
        regret: of the best-measured design so far, after 1, 2, ... designs' worth of draws; NaN before there is one.
        seconds: it took.
        simulated: it would have taken, were designs evaluated.
    """

    agent: str
    seed: int
    regret: np.ndarray
    seconds: float
    simulated: float


def search(scenario: dict[str, object], agent: str, seed: int, budget: int) -> Searched:
    """Runs ``agent`` once on the scenario of a table, in this process."""
    problem = parse_scenario(scenario)
    assert problem.table is not None
    table, trials = read_table(problem.table.folder), list[Trial]()
    settings = load_agent(agent).settings_for(problem.name, {"warm_start": False}).model_dump()
    start = time.process_time()
    load_agent(agent).search(
        SearchTask(problem, budget, seed, workers=0, settings=settings),
        on_trial=trials.append,
        should_stop=lambda: False,
        on_stage=lambda _: None,
    )
    taken = time.process_time() - start
    return Searched(agent, seed, regret_curve(table, problem, trials, budget), taken, trials[-1].seconds if trials else 0.0)


def regret_curve(table: Table, scenario: Scenario, trials: Sequence[Trial], budget: int) -> np.ndarray:
    """Regret of the design with the highest reward measured so far with all draws, float64 ``[budget]``; see ``Searched``."""
    curve = np.full(budget, np.nan)
    spent, best, at = 0, -np.inf, dict[str, int]()
    full = full_draws(scenario)
    for trial in trials:
        if not trial.design_hash:
            continue
        spent += max(0, trial.draws_of(scenario) - at.get(trial.design_hash, 0))
        at[trial.design_hash] = max(at.get(trial.design_hash, 0), trial.draws_of(scenario))
        if trial.is_full(scenario) and not trial.failure and trial.reward > best:
            best = trial.reward
            curve[min(budget, max(1, -(-spent // full))) - 1 :] = table.regret(table.place(trial.design_hash))
    return curve


def searches(table: Table, folder: Path, agents: Sequence[str], seeds: int, budget: int, workers: int, display: Display) -> list[Searched]:
    """Every agent with every seed, ``workers`` at a time.

    Raises:
        QumosError: an unknown agent.
    """
    for agent in agents:
        load_agent(agent)
    scenario = looked_up(table.scenario, folder).model_dump(mode="json")
    jobs = [(agent, seed) for agent in agents for seed in range(seeds)]
    found: list[Searched] = []
    with display.work(f"{len(agents)} agents on the table", len(jobs)) as work:
        if not workers:
            for job in jobs:
                found.append(search(scenario, *job, budget))
                work.at(len(found))
            return found
        with ProcessPoolExecutor(workers, get_context("forkserver")) as pool:
            for future in as_completed([pool.submit(search, scenario, *job, budget) for job in jobs]):
                found.append(future.result())
                work.at(len(found))
    return sorted(found, key=lambda one: (agents.index(one.agent), one.seed))


def write_report(source: Path, out: Path, agents: Sequence[str], seeds: int, budget: int, workers: int, display: Display) -> str:
    """Writes ``table.md``, ``distribution.png`` and, with agents, ``regret.png`` into ``out``; returns the text.

    Raises:
        QumosError: no sound table in ``source``, an unknown agent, or ``out`` cannot be written.
    """
    table = read_table(source)
    if agents and budget < 1:
        raise QumosError(f"budget is {budget}; at least one evaluation is needed")
    start = time.monotonic()
    runs = searches(table, source, agents, seeds, budget, workers, display) if agents else []
    text = report_text(table, runs, time.monotonic() - start)
    folder = folder_at(out)
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        distribution_figure(table).savefig(folder / DISTRIBUTION)
        if runs:
            regret_figure(by_agent(runs), table).savefig(folder / REGRET)
        write_text(folder / REPORT, text)
    return text


def by_agent(runs: Sequence[Searched]) -> Mapping[str, list[Searched]]:
    """The runs of every agent."""
    found: dict[str, list[Searched]] = {}
    for run in runs:
        found.setdefault(run.agent, []).append(run)
    return found


def report_text(table: Table, runs: Sequence[Searched], seconds: float) -> str:
    """The report as Markdown."""
    manifest = table.manifest
    lines = [
        f"# Table of {table.scenario.name}",
        "",
        f"{manifest.designs:,} designs, seeds {', '.join(map(str, manifest.seeds))}, evaluation version {manifest.evaluation_version}. "
        f"A full evaluation took {1e3 * float(table.seconds.mean()):.0f} ms of one processor on average, "
        f"{float(table.seconds.sum()) / 60:.0f} minutes together.",
        "",
        "Kendall's tau of the rewards of all designs:",
        "",
        "| draws | another seed | all draws | all draws, another seed | test split |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {one.draws} | {one.seeds:.3f} | {one.full:.3f} | {one.other_full:.3f} | {one.test:.3f} |" for one in noise_ceiling(table)]
    lines += [
        "",
        "Best designs (all draws, means over seeds):",
        "",
        "| reward | accuracy | theft | control | design |",
        "| --- | --- | --- | --- | --- |",
    ]
    for place in np.argsort(-table.rewards, kind="stable")[:SHOWN]:
        shown = [float(np.nanmean(table.columns[name][place, :, _SEARCH, -1])) for name in ("accuracy", "theft", "control")]
        actions = DesignState(table.scenario).table.actions
        built = " ".join(str(actions[number]) for number in table.episode(int(place))[:-1])
        lines.append(f"| {table.rewards[place]:.3f} | {' | '.join(f'{value:.3f}' for value in shown)} | {built} |")
    if runs:
        lines += ["", f"Searches, {seconds:.0f} s together; regret of the best-measured design, mean over seeds with 95 % interval:", ""]
        budget = len(runs[0].regret)
        marks = sorted({mark for mark in (10, 30, 100, 300, 1000, budget) if mark <= budget})
        lines += [
            "| agent | " + " | ".join(f"{mark} designs" for mark in marks) + " | seconds a run | simulated |",
            "| --- " * (len(marks) + 3) + "|",
        ]
        for agent, mine in by_agent(runs).items():
            at = [_interval([run.regret[mark - 1] for run in mine]).text() for mark in marks]
            taken = f"{np.mean([run.seconds for run in mine]):.1f} | {np.mean([run.simulated for run in mine]):.0f}"
            lines.append(f"| {agent} | {' | '.join(at)} | {taken} |")
    return "\n".join(lines) + "\n"


def _interval(values: Sequence[float]) -> Interval:
    return mean_interval(np.array(values))


def distribution_figure(table: Table) -> Figure:
    """How rewards are distributed, and how the rewards of two seeds, or of search and test rows, agree."""
    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.hist(table.rewards, bins=60, color="0.35")
    left.axvline(table.rewards[table.best], color="C3", lw=1)
    left.set_yscale("log")
    left.set_xlabel("reward, all draws, mean over seeds")
    left.set_ylabel("designs")
    left.set_title(f"{table.scenario.name}: {table.manifest.designs:,} designs; the line is the best", fontsize=9)
    rewards = np.nan_to_num(table.columns["reward"].astype(float))
    several = len(table.manifest.seeds) > 1
    other = rewards[:, 1, _SEARCH, -1] if several else rewards[:, 0, _TEST, -1]
    right.plot(rewards[:, 0, _SEARCH, -1], other, ".", ms=2, alpha=0.3, color="0.2", rasterized=True)
    right.set_xlabel(f"reward, seed {table.manifest.seeds[0]}")
    right.set_ylabel(f"reward, seed {table.manifest.seeds[1]}" if several else "reward on the test split")
    right.set_aspect("equal")
    return figure


def regret_figure(runs: Mapping[str, Sequence[Searched]], table: Table) -> Figure:
    """Regret against designs: mean over seeds, with the 95 % interval of the mean."""
    figure = Figure(figsize=(8, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for agent, mine in runs.items():
        stack = np.stack([run.regret for run in mine])
        numbers = np.arange(1, stack.shape[1] + 1)
        intervals = [mean_interval(column) for column in stack.T]
        (line,) = axes.plot(numbers, [one.mean for one in intervals], label=agent)
        axes.fill_between(
            numbers, [one.low for one in intervals], [one.high for one in intervals], color=line.get_color(), alpha=0.15, lw=0
        )
    axes.set_xscale("log")
    axes.set_xlabel("designs' worth of draws")
    axes.set_ylabel("regret of the best-measured design")
    axes.set_title(f"{table.scenario.name}; bands are 95 % intervals of the mean over seeds", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    return figure
