"""Commands that attack a design, and that make a deployed model forget."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.style import Style
from rich.table import Table
from rich.text import Text
from threadpoolctl import threadpool_limits

from ..design import Design
from ..errors import QumosError, unknown
from ..files import parse_json, read_bytes, write_text
from .app import DesignArgument, JsonOption, ScenarioOption, SeedOption, app, console, load_scenario, progress_bar

if TYPE_CHECKING:
    from ..attacks.registry import Goal
    from ..audit.scorecard import Line

_MOST_BYTES = 2**28  # of an earlier report
_WIDE = 100  # columns of a terminal
_DIGITS = 9  # of a number of shots: what a sampler's integers hold


@app.command()
def audit(
    design: Annotated[Path | None, typer.Argument(help="JSON file of a design.")] = None,
    scenario: Annotated[
        str | None, typer.Option("--scenario", "-s", help="Name of a built-in scenario or path of a TOML file; with --live the bundle's.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Fresh evaluation seeds; with --live draws of the adversary.")] = 3,
    attack: Annotated[
        list[str] | None, typer.Option("--attack", "-a", help="Only this attack of those that `qumos attacks` lists; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="HTML file of the report; the same measurements as JSON beside it.")
    ] = None,
    reference: Annotated[bool, typer.Option("--reference", help="Do not hold the design against the scenario's limits.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Print all measurements, not the scorecard alone.")] = False,
    live: Annotated[str | None, typer.Option("--live", help="Address of a gateway: attack that in place of a design.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="With --live: the bundle that the gateway serves.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="With --live: file with a customer's key; default QUMOS_KEY.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Attack a design in every known way, and give a verdict on each threat; ``qumos attacks`` lists the ways.

    With --live the attacks that need nothing but answers are run on a deployment, beside the same on the simulated model.
    """
    if live is not None:
        if design is not None or bundle is None or out is not None or reference:
            raise QumosError("--live URL goes with --bundle DIR and --key-file FILE, and without a design, --out or --reference")
        _audit_live(live, bundle, scenario, key_file, attack or (), seeds, full, as_json)
        return
    if design is None or scenario is None:
        raise QumosError(f"{'a design' if design is None else 'a scenario (--scenario)'} is needed, or --live URL")
    from ..audit import audit as run_audit
    from ..audit.report import by_goal, counted, html_page, table_rows
    from ..audit.scorecard import NO_PROOF

    if out is not None:
        _check_report(out)
    loaded = Design.load(design)
    with progress_bar("audit:") as move:
        found = run_audit(loaded, load_scenario(scenario), seeds=seeds, attacks=attack or (), limits=not reference, on_progress=move)
    if out is not None:
        write_text(out, html_page(found))
        write_text(out.with_suffix(".json"), found.to_json() + "\n")
    if as_json:
        typer.echo(found.to_json())
        return
    console().print(found.yardstick.sentence, style="bold")
    console().print(
        f"design {loaded.hash[:12]} in {found.scenario.name}: {len(found.seeds)} fresh seeds, {len(found.accuracy)} models, "
        f"chance {found.chance:.3f}"
    )
    goals = by_goal(found)
    console().print(_scorecard_table(goals, console().width))
    there = [one for one, _ in counted([line for lines in goals.values() for line in lines])]
    console().print("; ".join(f"{one.mark} {one.word}: {one.meaning}" for one in there) + f". {NO_PROOF}", style="dim")
    for goal, lines in goals.items() if full else ():
        table = _measurement_table(goal.capitalize())
        for line in lines:
            table.add_row(Text(line.attack.name, "bold"), "", "", "", Text(line.attack.title, "bold"))
            for row in table_rows(found.results[line.attack].measurements):
                table.add_row(*row)
            table.add_section()
        console().print(table)
    if not full:
        total = sum(len(result.measurements) for result in found.results.values())
        console().print(f"{total} measurements in all: --full prints them, --out writes them with plots", style="dim")
    if out is not None:
        console().print(f"wrote {out} and {out.with_suffix('.json').name}")


def _audit_live(
    url: str, folder: Path, scenario: str | None, key_file: Path | None, attacks: Sequence[str], repeats: int, full: bool, as_json: bool
) -> None:
    """`qumos audit --live`."""
    from ..audit.live import Api, audit_live
    from ..deployment.bundle import read_bundle
    from ..evaluation.workload import Workload
    from .serving import read_key

    api, bundle = Api(url, read_key(key_file)), read_bundle(folder)
    workload = Workload(load_scenario(scenario or bundle.manifest["scenario"]))
    with progress_bar("live audit:") as move, threadpool_limits(1):
        found = audit_live(bundle, workload, api, attacks=attacks, repeats=repeats, on_progress=move)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
        return
    table = Table(title=f"{bundle.manifest['name']} version {bundle.manifest['version']} at {url}: {found.rows} rows", title_justify="left")
    for heading in ("attack", "measurement", "live", "simulated", ""):
        table.add_column(heading, justify="right" if heading in ("live", "simulated") else "left", overflow="fold")
    for one in found.pairs:
        if full or one.headline or not one.agree:
            table.add_row(one.attack, one.name, one.live.text(), one.simulated.text(), "agree" if one.agree else "DIFFER")
    console().print(table)
    apart = sum(not one.agree for one in found.pairs)
    console().print(f"{len(found.pairs)} measurements, {apart} of them differ beyond their intervals", style="yellow" if apart else "dim")


@app.command()
def attacks(as_json: JsonOption = False) -> None:
    """The attacks of an audit, by what they threaten."""
    from ..attacks.registry import GOALS
    from ..attacks.suite import all_attacks

    every = all_attacks()
    if as_json:
        typer.echo(json.dumps([one.to_dict() for one in every], indent=2))
        return
    for goal in GOALS:
        table = Table("attack", "title", "the adversary", title=goal.capitalize(), title_justify="left", show_lines=True)
        for one in every:
            if one.goal == goal:
                table.add_row(one.name, one.title, one.adversary)
        console().print(table)


@app.command()
def membership(
    design: DesignArgument,
    scenario: ScenarioOption,
    seed: SeedOption = None,
    shots: Annotated[str, typer.Option(help="Shots of the service, 'exact' for none.")] = "10,100,1000,exact",
    repeats: Annotated[str, typer.Option(help="How often the attacker asks the same row.")] = "1,10",
    protocol: Annotated[str, typer.Option(help="ours, or qmu for the published recall beside ours.")] = "ours",
    as_json: JsonOption = False,
) -> None:
    """Shots against leakage: accuracy and membership AUC of a design by shots and repeated questions."""
    from ..attacks.confidentiality.membership_shots import shots_study
    from ..attacks.confidentiality.qmu_protocol import qmu_protocol
    from ..audit.report import table_rows
    from ..evaluation.service import Service
    from ..evaluation.workload import Workload

    if protocol not in ("ours", "qmu"):
        raise unknown("protocol", protocol, ("ours", "qmu"))
    levels, counts = _numbers("--shots", shots, exact=True), [count for count in _numbers("--repeats", repeats) if count is not None]
    loaded, chosen = Design.load(design), load_scenario(scenario)
    chosen.check_design(loaded)
    workload = Workload(chosen)
    number = chosen.seed if seed is None else seed
    with progress_bar("shots") as move, threadpool_limits(1):
        victim = Service.train(workload, loaded, number)
        rows = shots_study(victim, levels, counts, on_progress=move)
        published = qmu_protocol(victim) if protocol == "qmu" else []
    if as_json:
        recalls = [{"name": one.name, "value": one.interval.to_dict(), "control": one.control_interval.to_dict()} for one in published]
        levels_found = [
            {"shots": row.shots, "repeats": row.repeats, "accuracy": row.accuracy.to_dict(), "auc": row.auc.to_dict()} for row in rows
        ]
        typer.echo(json.dumps({"shots": levels_found, "qmu": recalls}, indent=2))
        return
    table = Table(title=f"membership of design {loaded.hash[:12]} in {chosen.name}", title_justify="left")
    for heading in ("shots", "repeats", "test accuracy", "membership AUC"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row("exact" if row.shots is None else str(row.shots), str(row.repeats), row.accuracy.text(), row.auc.text())
    console().print(table)
    if published:
        table = _measurement_table("the published protocol (arXiv 2509.06086) beside held-out rows")
        for found in table_rows(published):
            table.add_row(*found)
        console().print(table)


@app.command()
def unlearn(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    forget: Annotated[str, typer.Option(help="Rows to forget: '3,7,10-20', 'class:NAME', or a file with one row number a line.")],
    method: Annotated[str, typer.Option(help="ga, rga, ssd, finetune, reset, influence, distill, short or retrain.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new bundle; new or empty.")],
    scenario: Annotated[str | None, typer.Option("--scenario", "-s", help="Needed where the bundle's scenario is not built in.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier bundle.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Print the figures of a service that answers from shots, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the model of a bundle forget rows, and write the new bundle.

    The report stands beside the original, a mask on its output that forgets nothing, and a model retrained without the rows.
    """
    from ..unlearning import unlearn_bundle
    from ..unlearning.measurement import COLUMNS

    with progress_bar("unlearning") as move:
        loaded = None if scenario is None else load_scenario(scenario)
        report = unlearn_bundle(bundle, forget, method, out, scenario=loaded, force=force, on_progress=move)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2))
        return
    title = f"{report.method}: {report.forgotten} of {report.train_rows} rows forgotten"
    table = Table(title=title, title_justify="left")
    for heading in ("figure", *COLUMNS):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for figure in report.figures:
        if figure.name.endswith("shots") and not full:
            continue
        columns = [getattr(figure, name) for name in COLUMNS]
        table.add_row(figure.name, *(one.text() if one.known else "n/a" for one in columns))
    console().print(table)
    if not full:
        console().print("--full prints the figures of a service that answers from shots", style="dim")
    for note in report.notes:
        console().print(note, style="yellow")
    console().print(f"wrote {out}")


def _scorecard_table(goals: Mapping[Goal, Sequence[Line]], width: int) -> Table:
    """A line per threat; marks and words tell verdicts apart without colours, and what it is judged by stands there where there is room."""
    from ..audit.report import line_cells

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("verdict", "threat", "value", "control", "gain"):
        table.add_column(heading, justify="left" if heading in ("verdict", "threat") else "right", no_wrap=True)
    wide = width >= _WIDE
    if wide:
        table.add_column("judged by", no_wrap=True, overflow="ellipsis", style="dim")
    for goal, lines in goals.items():
        table.add_row(Text(goal.capitalize(), "dim"))
        for line in lines:
            judged, *figures = line_cells(line)
            verdict = Text(f"{line.verdict.mark} {line.verdict.word}", Style(color=line.verdict.colour))
            table.add_row(verdict, line.attack.name, *figures, *([judged] if wide else []))
    return table


def _measurement_table(title: str) -> Table:
    """An empty table of measurements."""
    from ..audit.report import COLUMNS

    table = Table(title=title, title_justify="left")
    for heading, side in COLUMNS.items():
        table.add_column(heading, justify=side, overflow="fold")
    return table


def _check_report(out: Path) -> None:
    """Raises QumosError where a report cannot be written: an audit takes minutes."""
    if out.suffix != ".html":
        raise QumosError(f"{out}: the ending must be .html")
    if not out.absolute().parent.is_dir():
        raise QumosError(f"{out}: folder {out.absolute().parent} does not exist")
    for path in (out, out.with_suffix(".json")):
        if path.is_dir():
            raise QumosError(f"{path}: is a folder")
    beside = out.with_suffix(".json")
    if beside.exists() and not _is_audit(beside):
        raise QumosError(f"{beside}: would be replaced by the measurements, and holds something else; choose another name than {out.name}")


def _is_audit(path: Path) -> bool:
    try:
        found = parse_json(read_bytes(path, _MOST_BYTES), str(path))
    except QumosError:
        return False
    return isinstance(found, dict) and {"attacks", "figures"} <= found.keys()


def _numbers(option: str, text: str, *, exact: bool = False) -> list[int | None]:
    """The whole numbers of a list such as ``10,100,exact``."""
    found: list[int | None] = []
    for piece in text.split(","):
        word = piece.strip()
        if exact and word == "exact":
            found.append(None)
        elif word.isdecimal() and len(word) <= _DIGITS and int(word) > 0:
            found.append(int(word))
        else:
            example = f"10,100{',exact' if exact else ''}"
            raise QumosError(f"{option}: {word!r} is not a number of {option[2:]} from 1 to {10**_DIGITS - 1:,}; such as {example}")
    return found
