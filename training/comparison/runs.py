"""Carries out a comparison: every run in a folder of its own, finished ones kept when it is continued."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from agents.baselines import baselines
from agents.pool import EvaluationPool
from qumos_env.errors import QumosError
from qumos_env.files import check_target, write_text

from ..curves import area_under, best_per_design, top_ten
from ..display import Display
from ..locking import LOCK, held
from ..rundir import CACHE, RUN, RunDirectory, RunPlan, folder_at, own_files, read_record, versions, write_json, written
from ..scoring import Entrant, score
from ..workflow import run_to_results, sound_cache
from .page import write_page
from .results import AgentRuns, Comparison, Marker, ScenarioResults, mean_curve
from .tables import markdown

RESULTS, TABLE, PAGE = "results.json", "results.md", "comparison.html"


def compare(plans: Sequence[RunPlan], out: Path, display: Display, *, force: bool) -> Comparison:
    """Runs every plan in a folder of its own and scores the winners on the test split under the same seeds.

    With ``force`` an earlier comparison in ``out`` is continued: runs that are finished and have the same plan are kept.

    Args:
        plans: of the same budget and test seeds; every agent with the same seeds in every scenario.
        out: the folder; it gets ``results.json``, ``results.md``, ``comparison.html`` and a folder for every scenario.
        display: shows progress.
        force: see above.

    Raises:
        QumosError: ``out`` holds something else, another process works on it, or a search fails or is interrupted.
    """
    folder = folder_at(out)
    check_target(folder, ours=_files_of_comparison, force=force)
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        if (folder / RESULTS).exists():
            # Somebody else's may have got there first.
            check_target(folder, ours=_files_of_comparison, force=force)
        own_files(folder, (RESULTS, TABLE, PAGE))
        return _compare(plans, folder, display)


def _files_of_comparison(folder: Path) -> Collection[str] | None:
    return (RESULTS,) if _is_comparison(folder) else None


def _is_comparison(folder: Path) -> bool:
    if [entry.name for entry in folder.iterdir()] == [LOCK]:
        return True
    try:
        read_record(Marker, folder / RESULTS)
    except QumosError:
        return False
    return True


def _compare(plans: Sequence[RunPlan], out: Path, display: Display) -> Comparison:
    first, by_scenario = plans[0], _by_scenario(plans)
    data = Comparison(
        state="running",
        budget=first.budget,
        seeds=len({plan.seed for plan in plans}),
        test_seeds=first.test_seeds,
        command=("python", "-m", "training", *sys.argv[1:]),
        versions=versions(),
        scenarios={},
    )
    write_json(out / RESULTS, data.model_dump())
    found: dict[str, ScenarioResults] = {}
    for name, mine in by_scenario.items():
        with _part(out / name) as folder:
            finished = [_run(plan, folder, display, f"{name}: run {number + 1} of {len(mine)}") for number, plan in enumerate(mine)]
            found[name] = _scenario_results(finished, folder, display)
    data = data.model_copy(update={"state": "done", "scenarios": found})
    write_json(out / RESULTS, data.model_dump())
    with written(out / TABLE):
        write_text(out / TABLE, markdown(data))
    with written(out / PAGE):
        write_page(data, out / PAGE)
    return data


def _by_scenario(plans: Sequence[RunPlan]) -> Mapping[str, list[RunPlan]]:
    found: dict[str, list[RunPlan]] = {}
    for plan in plans:
        mine = found.setdefault(plan.scenario.name, [])
        if mine and mine[0].scenario.hash != plan.scenario.hash:
            raise QumosError(f"two different scenarios are called {plan.scenario.name}; rename one of them")
        mine.append(plan)
    return found


@contextmanager
def _part(folder: Path) -> Iterator[Path]:
    """The folder of one scenario."""
    with written(folder):
        folder.mkdir(exist_ok=True)
    own_files(folder, (CACHE,))
    yield folder


def _run(plan: RunPlan, folder: Path, display: Display, title: str) -> RunDirectory:
    """The run of ``plan``: carried out, or as it was finished before."""
    place = folder / f"{plan.agent}-{plan.seed}"
    run = _finished(place, plan)
    if run is not None:
        return run
    display.note(f"{title}: {plan.agent}, seed {plan.seed}")
    with RunDirectory.create(place, plan, force=True) as run:
        run_to_results(run, display, with_references=False)
    if run.state != "done":
        raise QumosError(f"interrupted; continue with the same command and --force, finished runs in {folder.parent} are kept")
    return run


def _finished(folder: Path, plan: RunPlan) -> RunDirectory | None:
    """The run in ``folder``, if it is finished and did what ``plan`` says; how many processes it had does not matter."""
    if not (folder / RUN).is_file():
        return None
    run = RunDirectory.open(folder)
    same = run.plan.model_copy(update={"workers": plan.workers}) == plan
    return run if same and run.state == "done" else None


def _scenario_results(runs: Sequence[RunDirectory], folder: Path, display: Display) -> ScenarioResults:
    plan = runs[0].plan
    by_agent: dict[str, list[RunDirectory]] = {}
    for run in runs:
        by_agent.setdefault(run.plan.agent, []).append(run)
    entrants = [Entrant(baseline.name, baseline.design, baseline.limits) for baseline in baselines(plan.scenario)]
    with (
        EvaluationPool(plan.scenario, plan.workers, sound_cache(str(folder / CACHE), display)) as pool,
        display.work(f"{plan.scenario.name}: scoring the hand-made designs", len(entrants) * plan.test_seeds) as work,
    ):
        hand_made = score(pool, entrants, plan.test_seeds, work.at)
    return ScenarioResults(
        scenario_hash=plan.scenario.hash,
        draws=plan.scenario.draws.count,
        agents={agent: _agent_runs(mine) for agent, mine in by_agent.items()},
        hand_made=tuple(one.record() for one in hand_made),
    )


def _agent_runs(runs: Sequence[RunDirectory]) -> AgentRuns:
    scenario, budget = runs[0].plan.scenario, runs[0].plan.budget
    traces = [run.trials() for run in runs]
    results = [run.results() for run in runs]
    return AgentRuns(
        winners=tuple(one.winner for one in results),
        search_best=tuple(one.search_best for one in results),
        distinct=tuple(one.distinct for one in results),
        draws=tuple(one.draws for one in results),
        episodes=tuple(one.episodes for one in results),
        seconds=tuple(one.search_seconds for one in results),
        top_ten=tuple(area_under(top_ten(scenario, trials), budget) for trials in traces),
        curve=mean_curve([best_per_design(scenario, trials) for trials in traces]),
    )
