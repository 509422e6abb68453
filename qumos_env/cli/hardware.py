"""`qumos devices`: the profiles of real devices; `qumos costs`: what a design would cost on them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..design import Design
from ..errors import QumosError
from .app import DesignArgument, JsonOption, ScenarioOption, app, console, load_scenario

if TYPE_CHECKING:
    from ..hardware.profile import DeviceProfile

devices_app = typer.Typer(help="List and show device profiles.", no_args_is_help=True)
app.add_typer(devices_app, name="devices")


@devices_app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """The device profiles of the package."""
    from ..hardware.profile import NO_GATE_CIRCUITS, list_profiles, load_profile

    profiles = [load_profile(name) for name in list_profiles()]
    if as_json:
        typer.echo(json.dumps([_profile_data(profile) for profile in profiles], indent=2))
        return
    table = Table(title="Devices", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("name", "qubits", "native", "error", "readout", "$/1,000", "queue", "assumed"):
        table.add_column(heading, justify="left" if heading in ("name", "native") else "right", no_wrap=True)
    for profile in profiles:
        busy = 1000 * (profile.times.readout + profile.times.reset)
        table.add_row(
            profile.name,
            str(profile.n_qubits),
            profile.native_gates,
            f"{profile.errors.two_qubit:g}",
            f"{profile.errors.readout:g}",
            f"{profile.price.total(1, 1000, busy):.2f}",
            _seconds(profile.queue.median),
            f"{len(profile.assumed)}/{len(profile.figures)}",
        )
    table.caption = "error: average infidelity of a two-qubit gate; dollars for 1,000 shots of a circuit; median queue; assumed figures"
    console().print(table)
    for name, what in NO_GATE_CIRCUITS.items():
        console().print(f"no profile: {name}, {what}", style="dim")


@devices_app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="Name or path of a profile.")],
    as_json: JsonOption = False,
) -> None:
    """One profile: every figure and its source."""
    from ..hardware.profile import load_profile

    profile = load_profile(name)
    if as_json:
        typer.echo(json.dumps(_profile_data(profile), indent=2))
        return
    table = Table(title=f"{profile.name}: {profile.title}", title_justify="left")
    for heading in ("figure", "value", "source"):
        table.add_column(heading, justify="right" if heading == "value" else "left", overflow="fold")
    for figure in profile.figures:
        source = profile.source(figure)
        table.add_row(figure, _value(profile, figure), source, style="yellow" if figure in profile.assumed else None)
    console().print(table)
    console().print(f"{len(profile.assumed)} of {len(profile.figures)} figures are assumed")


@app.command()
def costs(
    design: DesignArgument,
    scenario: ScenarioOption,
    device: Annotated[
        list[str] | None, typer.Option("--device", "-d", help="Profile of each provider, in their order, in place of the scenario's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What a design costs on the devices of its providers: transpiled (exact), and counted as rewards do (quick)."""
    from ..evaluation.costs import running_costs
    from ..hardware.estimate import estimate_parts
    from ..scenario.providers import device_profiles

    loaded, chosen = Design.load(design), load_scenario(scenario)
    if device:
        chosen = chosen.on_devices(device)
    chosen.check_design(loaded, limits=False)
    exact, quick = (running_costs(loaded, chosen, quick=way) for way in (False, True))
    if exact is None or quick is None:
        without = next(name for name in loaded.assignment if chosen.provider(name).device is None)
        raise QumosError(f"scenario {chosen.name}: provider {without} names no device; --device names one for every provider")
    profiles = device_profiles(chosen.providers)
    transpiled, counted = (estimate_parts(loaded, profiles, chosen.data.axis, quick=way) for way in (False, True))
    shots = loaded.shots or chosen.budget.shots
    within = chosen.cost_limits.allows(loaded)
    if as_json:
        parts = [
            {"provider": one.provider, "device": one.profile.name, "variants": one.variants, "error": one.error}
            | {"exact": asdict(one.counts), "quick": asdict(other.counts)}
            for one, other in zip(transpiled, counted, strict=True)
        ]
        figures = {"rows": chosen.budget.rows, "shots": shots, "within_budget": within, "parts": parts}
        typer.echo(json.dumps(figures | {"exact": exact.to_dict(), "quick": quick.to_dict()}, indent=2))
        return
    table = Table(
        title=f"design {loaded.hash[:12]} in {chosen.name}: native gates, exact (quick)",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for heading in ("part", "provider", "device", "circuits", "one-qubit", "two-qubit", "duration", "error"):
        table.add_column(heading, justify="left" if heading in ("provider", "device") else "right", no_wrap=True)
    for number, (one, other) in enumerate(zip(transpiled, counted, strict=True)):
        table.add_row(
            str(number),
            one.provider,
            one.profile.name,
            str(one.variants),
            f"{one.counts.n_one_qubit} ({other.counts.n_one_qubit})",
            f"{one.counts.n_two_qubit} ({other.counts.n_two_qubit})",
            _seconds(one.counts.seconds),
            f"{one.error:.3f}",
        )
    table.caption = "circuits: per row; error: probability that a run goes wrong"
    console().print(table)
    table = Table(title=f"{chosen.budget.rows} rows, {shots} shots a circuit", title_justify="left")
    for heading in ("figure", "exact", "quick"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    theirs = quick.to_dict()
    for name, value in exact.to_dict().items():
        table.add_row(name.replace("_", " "), f"{value:.4g}", f"{theirs[name]:.4g}")
    table.caption = "seconds are means with the queues; training by parameter shift, would it run on the devices"
    console().print(table)
    if not within:
        console().print("over the scenario's budget", style="yellow")


def _profile_data(profile: DeviceProfile) -> dict[str, Any]:
    """Plain JSON: a lifetime without end is null, ``sources`` is a table, and what is assumed is named."""
    data: dict[str, Any] = json.loads(profile.model_dump_json())
    return data | {"qubits": profile.n_qubits, "sources": dict(profile.sources), "assumed": list(profile.assumed)}


def _value(profile: DeviceProfile, figure: str) -> str:
    section, _, field = figure.partition(".")
    if figure == "topology":
        return f"{profile.topology.kind}, {profile.n_qubits} qubits"
    found = getattr(profile, section)
    if not field:
        return {True: "yes", False: "no"}.get(found, str(found))
    number = float(getattr(found, field))
    if section == "times" or figure == "queue.median":
        return _seconds(number)
    return f"${number:g}" if section == "price" else f"{number:g}"


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value == 0 or value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value / 1e-9:.4g} ns"
