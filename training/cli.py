"""The command line of ``python -m training``."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.registry import AGENTS
from agents.settings import parse_overrides
from qumos_env.cli import run as run_app

from .display import Display

if TYPE_CHECKING:
    from .results import Results
    from .rundir import RunDirectory

app = typer.Typer(name="training", help="Search for designs with agents, and compare agents.", no_args_is_help=True, add_completion=False)
tables = typer.Typer(help="Tables of all designs of a small scenario.", no_args_is_help=True)
app.add_typer(tables, name="table")

ScenarioOption = Annotated[str, typer.Option("--scenario", "-s", help="Name of a built-in scenario or path of a TOML file.")]
BudgetOption = Annotated[int, typer.Option(help="Designs to evaluate; with K draws each, this is K times as many trained models.", min=1)]
TimeOption = Annotated[float | None, typer.Option(help="Seconds of search; the scoring that follows comes on top.", min=0.1)]
WorkersOption = Annotated[int, typer.Option(help="Processes that evaluate designs; 0 uses this one.", min=0)]
SetOption = Annotated[list[str], typer.Option("--set", help="Override a setting of the agent, as key=value.")]
ContendersOption = Annotated[int, typer.Option(help="Best designs of the search that are scored again before one is chosen.", min=1)]
TestSeedsOption = Annotated[int, typer.Option(help="Fresh seeds of every test score.", min=2)]
ForceOption = Annotated[bool, typer.Option("--force", help="Reuse a folder that holds an earlier run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS", help="Ray cluster to evaluate on: host:port of its head, auto for that on this machine, local to start one."
    ),
]
LimitOption = Annotated[float, typer.Option(help="Seconds that an evaluation may take in a worker before it counts as failed.", min=0.1)]
DEFAULT_LIMIT = 3600.0
DEFAULT_WORKERS = min(os.cpu_count() or 1, 8)


@app.command()
def train(
    scenario: ScenarioOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Run directory; new or empty.")],
    agent: Annotated[str, typer.Option("--agent", "-a", help=f"One of {', '.join(sorted(AGENTS))}.")] = "reinforce",
    budget: BudgetOption = 1000,
    time_limit: TimeOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the agent; evaluations use the scenario's.", min=0)] = 0,
    workers: WorkersOption = DEFAULT_WORKERS,
    warm_start: Annotated[
        bool | None,
        typer.Option("--warm-start/--no-warm-start", help="Evaluate the hand-made designs first; default: as the agent is tuned."),
    ] = None,
    random_budget: Annotated[
        int | None,
        typer.Option(help="Designs of the random search for comparison; default a tenth of the search, 0 for none.", min=0),
    ] = None,
    contenders: ContendersOption = 16,
    test_seeds: TestSeedsOption = 5,
    overrides: SetOption = [],  # noqa: B006 (typer copies it)
    address: AddressOption = None,
    evaluation_limit: LimitOption = DEFAULT_LIMIT,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search for the best design, and score it against hand-made designs and random search on the test split.

    Ctrl-C and the time limit keep what was found.
    """
    from .rundir import RunDirectory
    from .workflow import connected, make_plan

    plan = make_plan(
        scenario=scenario,
        agent=agent,
        budget=budget,
        seed=seed,
        workers=workers,
        time_limit=time_limit,
        warm_start=warm_start,
        random_budget=random_budget,
        contenders=contenders,
        test_seeds=test_seeds,
        overrides=parse_overrides(overrides),
        evaluation_limit=evaluation_limit,
    )
    display = Display()
    with connected(address, workers, display), RunDirectory.create(out, plan, force=force) as run:
        _finish(run, display, as_json, address)


@app.command()
def resume(
    directory: Annotated[Path, typer.Argument(help="Run directory.")],
    budget: Annotated[int | None, typer.Option(help="New, larger budget.", min=1)] = None,
    time_limit: TimeOption = None,
    workers: Annotated[int | None, typer.Option(help="Processes that evaluate designs; default as before.", min=0)] = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Continue an interrupted run, or a finished one with a larger budget; nothing is evaluated twice.

    It may go on with other workers and elsewhere than it began.
    """
    from .rundir import RESULTS, RunDirectory
    from .workflow import check_unchanged, connected, with_budget

    display = Display()
    with RunDirectory.resume(directory) as run:
        plan = with_budget(run.plan, budget, time_limit, workers)
        scored = run.state == "done" and (run.path / RESULTS).exists()
        if scored and plan.budget == run.plan.budget and run.results().stopped != "stopped":
            display.note("the run is finished, nothing is left to do; a larger --budget goes on with it")
            _show(run, run.results(), display, as_json)
            return
        check_unchanged(run)
        run.plan = plan
        with connected(address, plan.workers, display):
            _finish(run, display, as_json, address)


@app.command()
def report(directory: Annotated[Path, typer.Argument(help="Run directory.")]) -> None:
    """Write report.html of a scored run."""
    from .report import write_report
    from .rundir import REPORT, RunDirectory

    run = RunDirectory.open(directory)
    write_report(run)
    typer.echo(f"wrote {run.path / REPORT}")


@app.command()
def compare(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the comparison; new or empty.")],
    scenario: Annotated[list[str], typer.Option("--scenario", "-s", help="Repeat for several: a name, or the path of a TOML file.")],
    agent: Annotated[list[str], typer.Option("--agent", "-a", help="Repeat for several; default all without Ray: random, evolution.")] = [  # noqa: B006
        "random",
        "evolution",
    ],
    seeds: Annotated[int, typer.Option(help="Runs per agent and scenario, with seeds 0, 1, ...", min=1)] = 3,
    budget: BudgetOption = 300,
    workers: WorkersOption = DEFAULT_WORKERS,
    warm_start: Annotated[
        bool | None,
        typer.Option("--warm-start/--no-warm-start", help="Whether agents start from the hand-made designs; default: as each is tuned."),
    ] = None,
    contenders: ContendersOption = 16,
    test_seeds: TestSeedsOption = 5,
    address: AddressOption = None,
    evaluation_limit: LimitOption = DEFAULT_LIMIT,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare agents over scenarios at equal draws, several runs each: interquartile means of the test reward with bootstrap intervals."""
    from .comparison.runs import PAGE, TABLE, compare
    from .comparison.tables import AGGREGATE, HEADINGS, aggregate_rows, scenario_rows
    from .tables import comparison_table
    from .workflow import connected, make_plan

    plans = [
        make_plan(
            scenario=problem,
            agent=name,
            budget=budget,
            seed=seed,
            workers=workers,
            time_limit=None,
            warm_start=warm_start,
            random_budget=0,
            contenders=contenders,
            test_seeds=test_seeds,
            overrides={},
            evaluation_limit=evaluation_limit,
        )
        for problem in dict.fromkeys(scenario)
        for name in dict.fromkeys(agent)
        for seed in range(seeds)
    ]
    display = Display()
    with connected(address, workers, display):
        data = compare(plans, out, display, force=force, address=address)
    if as_json:
        _print_json(data.model_dump())
        return
    for problem, found in data.scenarios.items():
        title = f"{problem}: test reward after {budget} designs, {seeds} run(s) each"
        display.out.print(comparison_table(title, HEADINGS, scenario_rows(found)))
    if len(data.scenarios) > 1:
        display.out.print(comparison_table("all scenarios, in units of the best of each", AGGREGATE, aggregate_rows(data)))
    display.out.print(f"tables: {out / TABLE}\nfigures: {out / PAGE}", soft_wrap=True, markup=False)


@tables.command("make")
def make(
    scenario: Annotated[str, typer.Argument(help="Name of a built-in scenario or path of a TOML file; a small one.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the table; new, or one to go on with.")],
    seeds: Annotated[int, typer.Option(help="Evaluation seeds: the scenario's and those that follow it.", min=1)] = 2,
    workers: WorkersOption = DEFAULT_WORKERS,
) -> None:
    """Evaluate every design of a scenario; killed at any time, the same command goes on."""
    from qumos_env import load_scenario

    from .table_maker import make_table

    manifest = make_table(load_scenario(scenario), seeds, workers, out, Display())
    typer.echo(f"wrote {out}: {manifest.designs:,} designs, {len(manifest.seeds)} seeds")


@tables.command("report")
def table_report(
    folder: Annotated[Path, typer.Argument(help="Folder of the table.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the report.")],
    agent: Annotated[list[str], typer.Option("--agent", "-a", help="Agents whose regret is measured; repeat for several.")] = [],  # noqa: B006
    seeds: Annotated[int, typer.Option(help="Searches per agent, with seeds 0, 1, ...", min=1)] = 20,
    budget: BudgetOption = 1000,
    workers: Annotated[int, typer.Option(help="Searches at a time; 0 runs them in this process.", min=0)] = DEFAULT_WORKERS,
) -> None:
    """Noise ceiling, distribution and best designs of a table, and how fast agents approach its optimum."""
    from .table_report import write_report

    typer.echo(write_report(folder, out, tuple(dict.fromkeys(agent)), seeds, budget, workers, Display()), nl=False)


def _finish(run: RunDirectory, display: Display, as_json: bool, address: str | None = None) -> None:
    """Runs, reports and prints ``run``."""
    from .report import write_report
    from .workflow import run_to_results

    results = run_to_results(run, display, run.trials(), address=address)
    write_report(run)
    _show(run, results, display, as_json)


def _show(run: RunDirectory, results: Results, display: Display, as_json: bool) -> None:
    """Prints what ``run`` has found."""
    from .rundir import BEST, REPORT
    from .tables import result_notes, results_table

    if as_json:
        _print_json(results.model_dump())
        return
    display.out.print(results_table(results))
    for line in result_notes(results):
        display.out.print(line, markup=False)
    display.out.print(f"best design: {run.path / BEST}\nreport: {run.path / REPORT}", soft_wrap=True, markup=False)


def _print_json(data: Any) -> None:
    from .results import finite

    json.dump(finite(data), sys.stdout, indent=2, sort_keys=True)
    sys.stdout.write("\n")


def main() -> None:
    """Entry point of ``python -m training``; errors are one line on standard error and exit code 2."""
    # Outside a search, which ends in its own way, a request of the system to end is what Ctrl-C is.
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run_app(app))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
