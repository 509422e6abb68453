"""An audit as tables and as an HTML page with plots. What stands where is what attacks say in the fields of their results."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from ..attacks.registry import GOALS, Attack, Goal
from ..attacks.results import BarChart, Curve, Measurement, Plot
from ..design.rendering import design_figure, figure_png
from ..evaluation.statistics import Interval, mean_interval
from ..html import image, page, table
from .run import Audit

COLUMNS: dict[str, Literal["left", "right"]] = {
    "measured": "left",
    "value": "right",
    "control": "right",
    "gain": "right",
    "what the control is": "left",
}
"""Headings of a table of measurements, and where the cells below them stand."""
_TEXT = [number for number, side in enumerate(COLUMNS.values()) if side == "left"]
_INK, _RED, _GREY = "#22303c", "#d1495b", "#9fb3c8"


def table_rows(measurements: Sequence[Measurement], *, notes: bool = True) -> list[tuple[str, ...]]:
    """One row of text per measurement, under ``COLUMNS``; without ``notes`` only where they say why models are missing from it."""
    rows: list[tuple[str, ...]] = []
    for one in measurements:
        remarks = [one.control.name] if one.control is not None else []
        if one.note and (notes or not np.isfinite(one.values).all()):
            remarks.append(one.note)
        value = text(one.interval) if one.interval.known else "n/a"
        control = text(one.control_interval) if one.control_interval.known else "-"
        gain = text(one.gain, signed=True) if one.gain.known else "-"
        rows.append((one.name, value, control, gain, "; ".join(remarks)))
    return rows


def text(interval: Interval, *, signed: bool = False) -> str:
    """Mean and half-width, such as ``.731 ± .024``."""
    mean = f"{interval.mean:+.3f}" if signed else f"{interval.mean:.3f}"
    half = (interval.high - interval.low) / 2
    return f"{mean}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{half:.3f}" if np.isfinite(half) and half > 0 else mean


def by_goal(audit: Audit, *, summary: bool = False) -> dict[Goal, dict[Attack, list[Measurement]]]:
    """What every attack measured, by what it threatens, goals without attacks left out; in a ``summary`` the headlines alone.

    An attack that marks no headline has all of its measurements in the summary.
    """
    found: dict[Goal, dict[Attack, list[Measurement]]] = {}
    for goal in GOALS:
        for attack, result in audit.results.items():
            if attack.goal == goal:
                headlines = [one for one in result.measurements if one.headline]
                found.setdefault(goal, {})[attack] = headlines if summary and headlines else result.measurements
    return found


def html_page(audit: Audit) -> str:
    """The whole audit as one self-contained page."""
    design = audit.design
    service = mean_interval(audit.accuracy)
    parts = [
        f"<h1>Audit of design {design.hash[:12]}</h1>",
        f"<p>{escape(audit.scenario.title)} ({escape(audit.scenario.name)}). {len(audit.seeds)} fresh seeds, "
        f"{len(audit.accuracy)} trained models. The service answers {text(service)} of the test rows rightly, "
        f"chance is {audit.chance:.3f}.</p>",
        "<p>Values are means over the trained models with 95 % intervals (Student's t). Models of one data set share its rows, so "
        "the intervals cover the drawing of rows and initial angles, not another data set. A value means nothing without its "
        "control: what the adversary has without the attack.</p>",
        image(figure_png(design_figure(design, f"design {design.hash[:12]}")), "the audited design"),
    ]
    for goal, attacks in by_goal(audit).items():
        parts.append(f"<h2>{goal.capitalize()}</h2>")
        # Attacks may share a plot: it stands with the last of them.
        last = {curve.plot: attack for attack in attacks for curve in audit.results[attack].curves}
        for attack, measurements in attacks.items():
            parts.append(f"<h3>{escape(attack.title)}</h3>")
            parts.append(f"<p><b>{escape(attack.name)}</b>: the adversary {escape(attack.adversary)}.</p>")
            parts.append(table(list(COLUMNS), table_rows(measurements), text_columns=_TEXT))
            for chart in dict.fromkeys(one.chart for one in measurements if one.chart is not None):
                bars = [one for one in measurements if one.chart == chart and one.interval.known]
                parts.append(image(figure_png(_bars(chart, bars, service)), f"{chart.title}, each beside its control"))
            for plot in [plot for plot, drawn in last.items() if drawn == attack]:
                curves = [curve for one in attacks for curve in audit.results[one].curves if curve.plot == plot]
                parts.append(image(figure_png(_lines(plot, curves)), plot.title))
    return page(f"Audit of {design.hash[:12]} in {audit.scenario.name}", parts)


def _bars(chart: BarChart, measurements: Sequence[Measurement], service: Interval) -> Figure:
    """Measurements as bars with intervals, each with its control as a mark."""
    figure = Figure(figsize=(8, 0.6 + 0.34 * max(len(measurements), 1)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(measurements))[::-1]
    for place, one in zip(places, measurements, strict=True):
        value, control = one.interval, one.control_interval
        axes.barh(place, value.mean, color=_GREY, height=0.6)
        if np.isfinite(value.low):
            axes.plot([value.low, value.high], [place, place], color=_INK, lw=1.5)
        if control.known:
            axes.plot([control.mean] * 2, [place - 0.35, place + 0.35], color=_RED, lw=2, label="control" if place == places[0] else None)
    if chart.service:
        axes.axvline(service.mean, color=_INK, lw=1, ls=":", label="the service")
    axes.set_yticks(places, [one.case for one in measurements], fontsize=8)
    axes.set_xlabel(chart.x)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def _lines(plot: Plot, curves: Sequence[Curve]) -> Figure:
    """Curves of one plot."""
    figure = Figure(figsize=(6.4, 3.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        axes.plot(curve.x, curve.y, marker=".", ms=4, lw=1.4, label=curve.name)
    if plot.guessing:
        rates = np.geomspace(1e-3, 1)
        axes.plot(rates, rates, color=_INK, lw=1, ls=":", label="guessing")
    axes.set_xscale("log" if plot.log_x else "linear")
    axes.set_yscale("log" if plot.log_y else "linear")
    if plot.y_range is not None:
        axes.set_ylim(*plot.y_range)
    axes.set(xlabel=plot.x, ylabel=plot.y)
    axes.set_title(plot.title, fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    return figure
