"""`qumos scenarios`: list, show and check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..registration import list_scenarios, scenario_folder
from .app import JsonOption, app, console, load_scenario, progress_bar

scenarios_app = typer.Typer(help="List, show and check scenarios.", no_args_is_help=True)
app.add_typer(scenarios_app, name="scenarios")


@scenarios_app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """The built-in scenarios, with the figures of their last check."""
    scenarios = [load_scenario(name) for name in list_scenarios()]
    if as_json:
        rows = [{"name": s.name, "title": s.title, "thief": s.threat.thief, "calibration": s.calibration} for s in scenarios]
        typer.echo(json.dumps(rows, indent=2))
        return
    # Narrow enough for a terminal of 80 columns; `show` has the rest.
    table = Table(title="Scenarios", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("name", "thief", "K", "reliable", "test r", "best", "steal?", "fit"):
        table.add_column(heading, justify="left" if heading in ("name", "thief") else "right", no_wrap=True)
    for s in scenarios:
        figures = s.calibration
        table.add_row(
            s.name,
            s.threat.thief,
            str(s.draws.count),
            *(_two_digits(figures.get(key)) for key in ("reliability", "test_correlation", "best_reward")),
            _worth_stealing(figures.get("advantage")),
            "tutorial" if not s.compare else "yes" if figures.get("passed") else "no",
        )
    table.caption = "K draws; steal?: is the model better than a thief's own rows; fit for comparisons?"
    console().print(table)


@scenarios_app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="Name or path of a scenario.")],
    actions: Annotated[bool, typer.Option("--actions", help="Print the numbered action table instead.")] = False,
) -> None:
    """One scenario as JSON, or its action table."""
    scenario = load_scenario(name)
    if actions:
        from ..env.actions import action_table

        typer.echo(str(action_table(scenario)))
    else:
        typer.echo(json.dumps(scenario.model_dump(mode="json"), indent=2))


@scenarios_app.command("check")
def check_command(
    names: Annotated[list[str], typer.Argument(help="Names or paths of scenarios.")],
    designs: Annotated[int, typer.Option(min=2, help="Random designs behind the figures.")] = 50,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    write: Annotated[bool, typer.Option("--write", help="Keep the figures in the scenario's file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Admission: is the reward reliable, does it carry over to the test split, is there anything to find?"""
    from ..audit.admission import check
    from ..scenario import write_calibration

    results: dict[str, dict[str, float | int | str | bool]] = {}
    for name in names:
        scenario = load_scenario(name)
        with progress_bar(f"checking {scenario.name}") as move, progress_bar(f"auditing {scenario.name}") as move_audit:
            figures = check(scenario, designs=designs, workers=workers, on_progress=move, on_audit=move_audit).to_dict()
        results[scenario.name] = figures
        if write:
            path = scenario_folder() / f"{name}.toml" if name in list_scenarios() else Path(name)
            write_calibration(path, figures)
    if as_json:
        typer.echo(json.dumps(results, indent=2))
        return
    table = Table(title="Admission", title_justify="left")
    table.add_column("figure")
    for name in results:
        table.add_column(name, justify="right")
    for key in next(iter(results.values())):
        table.add_row(key.replace("_", " "), *(_two_digits(figures[key]) for figures in results.values()))
    console().print(table)


def _worth_stealing(advantage: object) -> str:
    """Whether the best known model is two standard errors above what a thief's own rows give."""
    from ..scenario.scenario import MIN_ADVANTAGE

    return "-" if not isinstance(advantage, (int, float)) else "yes" if advantage >= MIN_ADVANTAGE else "no"


def _two_digits(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
