"""The `qumos` command."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .design import Design
from .errors import EvaluationFailure, QumosError, one_line
from .scenario import MIN_ADVANTAGE, Scenario, list_scenarios, load_scenario, scenario_folder, write_calibration

app = typer.Typer(
    name="qumos",
    help="Design, evaluate and export distributed quantum machine-learning models.",
    no_args_is_help=True,
    add_completion=False,
)
scenarios_app = typer.Typer(help="List, show and check scenarios.", no_args_is_help=True)
app.add_typer(scenarios_app, name="scenarios")

ScenarioOption = Annotated[str, typer.Option("--scenario", "-s", help="Name of a built-in scenario or path of a TOML file.")]
SeedOption = Annotated[int | None, typer.Option(help="Evaluation seed; default the scenario's.", min=0)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")]
DesignArgument = Annotated[Path, typer.Argument(help="JSON file of a design.")]


def _console() -> Console:
    return Console()


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


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
            "smoke" if not s.compare else "yes" if figures.get("passed") else "no",
        )
    table.caption = "K draws; steal?: is the model better than a thief's own rows; fit for comparisons?"
    _console().print(table)


@scenarios_app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="Name or path of a scenario.")],
    actions: Annotated[bool, typer.Option("--actions", help="Print the numbered action table instead.")] = False,
) -> None:
    """One scenario as JSON, or its action table."""
    scenario = load_scenario(name)
    if actions:
        from .actions import action_table

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
    from .admission import check

    results: dict[str, dict[str, float | int | str | bool]] = {}
    for name in names:
        scenario = load_scenario(name)
        with _progress() as progress:
            task = progress.add_task(f"checking {scenario.name}", total=None)
            figures = check(
                scenario,
                designs=designs,
                workers=workers,
                on_progress=lambda done, total, task=task, progress=progress: progress.update(task, completed=done, total=total),  # type: ignore[misc]
            ).to_dict()
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
    _console().print(table)


@app.command()
def evaluate(
    design: DesignArgument,
    scenario: ScenarioOption,
    seed: SeedOption = None,
    rows: Annotated[str, typer.Option(help="search (held-out rows of each draw) or test (the fixed test split).")] = "search",
    cache: Annotated[Path | None, typer.Option(help="SQLite file that keeps evaluations.")] = None,
    reference: Annotated[bool, typer.Option("--reference", help="Do not hold the design against the scenario's limits.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train and attack a design, and print what was measured beside its controls."""
    from .evaluation import Evaluator

    loaded = load_scenario(scenario)
    result = Evaluator(loaded, cache).evaluate(Design.load(design), seed=seed, rows=rows, limits=not reference)  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
        return
    title = f"design {result.design_hash[:12]} in {result.scenario}, {result.rows} rows, {result.draws} draws"
    table = Table(title=title, title_justify="left")
    for heading in ("figure", "value", "± s.e.", "meaning"):
        table.add_column(heading, justify="right" if heading in ("value", "± s.e.") else "left")
    table.add_row("reward", f"{result.reward:.3f}", f"{result.reward_se:.3f}", "blend of the parts below")
    for name, value in result.rewards.items():
        table.add_row(f"  {name}", f"{value:.3f}", "", "part of the reward")
    table.add_row("accuracy", f"{result.accuracy:.3f}", f"{result.accuracy_se:.3f}", f"owner's model; chance {result.chance:.3f}")
    table.add_row(
        "stolen", f"{result.theft:.3f}", f"{result.theft_se:.3f}", f"worst thief: {result.theft_tier} at {result.theft_provider}"
    )
    table.add_row("control C*", f"{result.control:.3f}", "", f"the same rows and no loot: {result.control_name}")
    if result.query_control is not None:
        table.add_row("queries only", f"{result.query_control:.3f}", "", "the service's answers to the thief's rows and no loot")
    table.add_row("theft gain", f"{result.theft_gain:+.3f}", "", "stolen − control")
    table.add_row("membership AUC", f"{result.membership_auc:.3f}", f"{result.membership_auc_se:.3f}", "0.5 leaks nothing")
    table.add_row("cost", f"{result.cost:.0f}", "", f"budget {loaded.reward.cost_budget:.0f}")
    _console().print(table)
    if result.nothing_worth_stealing:
        _console().print("[yellow]nothing worth stealing: the model is within two standard errors of the control[/yellow]")


@app.command()
def render(
    design: DesignArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="PNG, SVG or PDF file; without it the design is printed as text.")] = None,
) -> None:
    """Draw a design, coloured by provider."""
    from .rendering import design_text, save_design_image

    loaded = Design.load(design)
    if out is None:
        typer.echo(design_text(loaded))
        return
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise QumosError(f"{out}: the ending must be .png, .svg or .pdf")
    save_design_image(loaded, out, f"design {loaded.hash[:12]}")
    typer.echo(f"wrote {out}")


@app.command()
def export(
    design: DesignArgument,
    scenario: ScenarioOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the bundle; new or empty.")],
    seed: SeedOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier bundle.")] = False,
) -> None:
    """Train a design and write its bundle: one folder per provider, one secret folder for the owner."""
    from .deployment.bundle import export_bundle

    folder = export_bundle(Design.load(design), load_scenario(scenario), out, seed=seed, force=force)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    typer.echo(f"wrote {folder}: test accuracy {manifest['test_accuracy']:.3f} on {manifest['test_rows']} rows")
    for name in sorted(manifest["files"]):
        typer.echo(f"  {name}")


def _worth_stealing(advantage: object) -> str:
    """Whether the best known model is two standard errors above what a thief's own rows give."""
    return "-" if not isinstance(advantage, (int, float)) else "yes" if advantage >= MIN_ADVANTAGE else "no"


def _two_digits(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


# Newer typer ships its own copy of click: its errors are not those of the installed click.
_CommandError: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def run(command: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Runs a typer app; errors that a user can act on become one line on stderr and exit code 2."""
    try:
        outcome: Any = command(args=arguments, standalone_mode=False)
    except (QumosError, EvaluationFailure) as error:
        typer.echo(f"error: {one_line(error)}", err=True)
        return 2
    except _CommandError as error:
        message = one_line(error.format_message())  # type: ignore[attr-defined]
        if message:  # empty where the help was printed in place of a command
            typer.echo(f"error: {message}", err=True)
        return 2
    except OSError as error:
        typer.echo(f"error: {error.filename or 'file'}: {error.strerror or one_line(error)}", err=True)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("interrupted", err=True)
        return 130
    return outcome if isinstance(outcome, int) else 0


def main() -> None:
    """Entry point of `qumos`."""
    sys.exit(run(app))


__all__ = ["Scenario", "app", "main", "run"]
