"""Commands on one design: make, evaluate, render, export."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..design import Design
from ..design.ansatz import contiguous, interleaved, ry_cz_ry
from ..errors import QumosError
from ..files import parse_json, read_bytes, write_text
from .app import DesignArgument, JsonOption, ScenarioOption, SeedOption, app, console, load_scenario

_MOST_BYTES = 2**28  # of an audit


class Split(StrEnum):
    """How the register is dealt to the parts."""

    contiguous = "contiguous"
    interleaved = "interleaved"


@app.command()
def design(
    scenario: ScenarioOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON file of the design.")],
    layers: Annotated[int, typer.Option(min=1, max=20, help="Layers of the RY-CZ-RY ansatz.")] = 2,
    split: Annotated[Split, typer.Option(help="Neighbouring qubits together, or dealt in turn.")] = Split.interleaved,
    random: Annotated[int | None, typer.Option("--random", min=0, help="Draw a random design with this seed instead.")] = None,
) -> None:
    """Write a design to start from: the textbook ansatz on as many providers as there are, or a random design."""
    loaded = load_scenario(scenario)
    if random is None:
        rules = loaded.design
        parts = min(rules.max_parts, len(loaded.providers), rules.qubits)
        partition = {Split.contiguous: contiguous, Split.interleaved: interleaved}[split](rules.qubits, parts)
        made = ry_cz_ry(partition, loaded.provider_names[:parts], layers)
    else:
        import numpy as np

        from ..env.random_designs import random_design

        made = random_design(loaded, np.random.default_rng(random))
    loaded.check_design(made)
    write_text(out, made.to_json() + "\n")
    typer.echo(f"wrote {out}: {len(made.gates)} gates, {made.n_parts} part(s)")


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
    from ..evaluation.evaluator import Evaluator

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
    leak = f"{loaded.threat.membership} attack; 0.5 leaks nothing"
    table.add_row("membership AUC", f"{result.membership_auc:.3f}", f"{result.membership_auc_se:.3f}", leak)
    if "extraction" in result.measured:
        table.add_row("extracted", f"{result.extraction:.3f}", "", "a customer's clone, trained on the service's answers")
    if "fallback" in result.measured:
        table.add_row("in an outage", f"{result.fallback:.3f}", "", f"the owner's fallback without {result.fallback_provider}")
    table.add_row("cost", f"{result.cost:.0f}", "", f"budget {loaded.reward.cost_budget:.0f}")
    console().print(table)
    if result.nothing_worth_stealing:
        console().print("nothing worth stealing: the model is within two standard errors of the control", style="yellow")


@app.command()
def render(
    design: DesignArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="PNG, SVG or PDF file; without it the design is printed as text.")] = None,
) -> None:
    """Draw a design, coloured by provider."""
    from ..design.rendering import design_text, save_design_image

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
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier bundle; its next version comes out.")] = False,
    name: Annotated[str | None, typer.Option(help="Of the model; default the scenario's.")] = None,
    version: Annotated[int | None, typer.Option(min=1, max=10**9, help="Of the model; default the next one, or 1.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of the signing key; default the owner's, made at its first use.")] = None,
    fallback: Annotated[bool, typer.Option("--fallback", help="Let the gateway answer without a part, and say so.")] = False,
    audit: Annotated[Path | None, typer.Option(help="JSON file of `qumos audit --out`, for the model card.")] = None,
) -> None:
    """Train a design, write its bundle, and sign it: one folder per provider, one secret folder for the owner."""
    from ..deployment.export import Release, export_bundle
    from ..deployment.signing import owner_key

    if name is not None and not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", name):
        raise QumosError(f"--name: {name!r} is no name of a model: up to 63 lower-case letters, digits and hyphens, a letter first")
    release = Release(name, version, owner_key(key))
    figures = None if audit is None else parse_json(read_bytes(audit, _MOST_BYTES), str(audit))
    if figures is not None and not isinstance(figures, dict):
        raise QumosError(f"{audit}: no measurements of an audit")
    chosen = load_scenario(scenario)
    folder = export_bundle(Design.load(design), chosen, out, seed=seed, force=force, release=release, fallback=fallback, audit=figures)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    what = f"{manifest['name']} version {manifest['version']}"
    typer.echo(f"wrote {folder}: test accuracy {manifest['test_accuracy']:.3f} on {manifest['test_rows']} rows, {what}, signed")
    places = [name.rpartition("/")[0] for name in sorted(manifest["files"])]
    for place in dict.fromkeys(places):
        typer.echo(f"  {place}: {places.count(place)} files")
