"""Commands that claim what a design is worth, and hold claims to it."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..errors import QumosError
from ..files import write_text
from .app import DesignArgument, JsonOption, ScenarioOption, app, console, progress_bar

SeedsOption = Annotated[int, typer.Option(min=2, help="Fresh evaluation seeds.")]
WorkersOption = Annotated[int, typer.Option(min=1, help="Processes.")]
_PACKAGES = ("numpy", "qsimcirq", "scikit-learn")


@app.command()
def claim(
    design: DesignArgument,
    scenario: ScenarioOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON file of the claim.")],
    agent: Annotated[str, typer.Option(help="Who found the design.")] = "unknown",
    command: Annotated[str, typer.Option("--command", help="The command that found it.")] = "unknown",
    seeds: SeedsOption = 8,
    workers: WorkersOption = 1,
) -> None:
    """Measure what a design is worth, under fresh seeds and against the audit's thief, and write it down as a claim."""
    from ..audit.claims import Provenance, make_claim, write_claim
    from ..design import Design
    from ..scenario import load_scenario

    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    with progress_bar("measuring:") as move:
        found = make_claim(
            Design.load(design),
            load_scenario(scenario),
            Provenance(agent=agent, command=command, versions=versions),
            seeds=seeds,
            workers=workers,
            on_progress=move,
        )
    write_claim(found, out)
    console().print(f"{out}: reward {found.worth.reward.text()}, against the audit's thief {found.worth.audited.text()}")


@app.command()
def validate(
    claims: Annotated[list[Path], typer.Argument(help="JSON files of claims.")],
    seeds: SeedsOption = 8,
    workers: WorkersOption = 1,
    leaderboard: Annotated[Path | None, typer.Option("--leaderboard", help="Markdown file for the leaderboard of these claims.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure claimed designs again, beside the hand-made ones, and say whether the claims hold."""
    from ..audit import leaderboard as page
    from ..audit.admission import handmade
    from ..audit.claims import read_claim
    from ..audit.claims import validate as run_validation

    read = [read_claim(path) for path in claims]
    found = []
    for claimed, scenario, design in read:
        with progress_bar(f"validating {scenario.name}:") as move:
            found.append(run_validation(claimed, scenario, design, handmade(scenario), seeds=seeds, workers=workers, on_progress=move))
    if leaderboard is not None:
        write_text(leaderboard, page.leaderboard(found, seeds))
    if as_json:
        rows = [
            {
                "scenario": one.claim.scenario,
                "holds": one.holds,
                "ahead": one.ahead,
                "claimed": one.claim.worth.model_dump(),
                "measured": one.worth.model_dump(),
                "hand_made": {name: worth.model_dump() for name, worth in one.rivals.items()},
                "lead": None if one.lead is None else one.lead.model_dump(),
            }
            for one in found
        ]
        typer.echo(json.dumps(rows, indent=2))
    else:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("scenario", "claimed", "measured", "audited", "hand-made", "holds", "ahead"):
            table.add_column(heading)
        for one in found:
            rival = "–" if one.best_rival is None else one.rivals[one.best_rival].audited.text()
            row = (one.claim.scenario, one.claim.worth.reward.text(), one.worth.reward.text(), one.worth.audited.text(), rival)
            table.add_row(*row, *("yes" if value else "no" for value in (one.holds, one.ahead)))
        table.caption = "audited: against the audit's thief; hand-made: the best of them, audited; ahead: of all of them, intervals apart"
        console().print(table)
    for path, checked in zip(claims, found, strict=True):
        if not checked.holds:
            said, measured = checked.claim.worth, checked.worth
            raise QumosError(
                f"{path}: does not hold: claimed {said.reward.text()}, audited {said.audited.text()}; "
                f"measured {measured.reward.text()}, audited {measured.audited.text()}"
            )
