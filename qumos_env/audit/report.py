"""An audit as a table and as an HTML page with plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure as Plot

from ..attacks.results import Curve, Figure, Interval, mean_interval
from ..html import image, page, table
from ..rendering import design_figure, figure_png
from .run import GOALS, Audit

HEADINGS = ("attack", "figure", "value", "control", "gain", "what the control is")
_INK, _RED, _GREY = "#22303c", "#d1495b", "#9fb3c8"
_LOG_PLOTS = {"membership ROC"}


def table_rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """One row of text per figure, under ``HEADINGS``."""
    return [
        (
            figure.attack,
            figure.name,
            text(figure.interval) if figure.interval.known else "n/a",
            text(figure.control_interval) if figure.control_interval.known else "-",
            text(figure.gain, signed=True) if figure.gain.known else "-",
            "; ".join(filter(None, (figure.control, figure.note))),
        )
        for figure in figures
    ]


def text(interval: Interval, *, signed: bool = False) -> str:
    """Mean and half-width, such as ``.731 ± .024``."""
    mean = f"{interval.mean:+.3f}" if signed else f"{interval.mean:.3f}"
    half = (interval.high - interval.low) / 2
    return f"{mean} ± {half:.3f}" if np.isfinite(half) and half > 0 else mean


def by_goal(audit: Audit) -> dict[str, list[Figure]]:
    """The audit's figures by what they threaten, goals without figures left out."""
    grouped = {goal: [figure for figure in audit.figures if figure.goal == goal] for goal in GOALS}
    return {goal: figures for goal, figures in grouped.items() if figures}


def html_page(audit: Audit) -> str:
    """The whole audit as one self-contained page."""
    design = audit.design
    parts = [
        f"<h1>Audit of design {design.hash[:12]}</h1>",
        f"<p>{escape(audit.scenario.title)} ({escape(audit.scenario.name)}). {len(audit.seeds)} fresh seeds, "
        f"{len(audit.accuracy)} trained models. The service answers {text(mean_interval(audit.accuracy))} of the test rows rightly, "
        f"chance is {audit.chance:.3f}.</p>",
        "<p>Values are means over the trained models with 95 % intervals (Student's t). Models of one data set share its rows, so "
        "the intervals cover the drawing of rows and initial angles, not another data set. A figure means nothing without its "
        "control: what the adversary has without the attack.</p>",
        image(figure_png(design_figure(design, f"design {design.hash[:12]}")), "the audited design"),
    ]
    for goal, figures in by_goal(audit).items():
        parts.append(f"<h2>{goal.capitalize()}</h2>")
        parts.append(table(HEADINGS, table_rows(figures), text_columns=(1, 5)))
        of_goal = {one.name for one in audit.attacks if one.goal == goal}
        parts += [f"<p><b>{escape(one.name)}</b>: {escape(one.adversary)}</p>" for one in audit.attacks if one.goal == goal]
        if "theft" in of_goal:
            theft = [figure for figure in figures if figure.attack == "theft" and figure.interval.known]
            parts.append(image(figure_png(_bars(theft, mean_interval(audit.accuracy))), "theft by provider and tier against its control"))
    if audit.curves:
        parts.append("<h2>Plots</h2>")
        parts += [image(figure_png(plot), title) for title, plot in _plots(audit.curves)]
    return page(f"Audit of {design.hash[:12]} in {audit.scenario.name}", parts)


def _bars(figures: Sequence[Figure], service: Interval) -> Plot:
    """Figures as bars with intervals, each with its control as a mark."""
    plot = Plot(figsize=(8, 0.6 + 0.34 * max(len(figures), 1)), dpi=110, layout="constrained")
    axes = plot.add_subplot()
    places = np.arange(len(figures))[::-1]
    for place, figure in zip(places, figures, strict=True):
        value, control = figure.interval, figure.control_interval
        axes.barh(place, value.mean, color=_GREY, height=0.6)
        if np.isfinite(value.low):
            axes.plot([value.low, value.high], [place, place], color=_INK, lw=1.5)
        if control.known:
            axes.plot([control.mean] * 2, [place - 0.35, place + 0.35], color=_RED, lw=2, label="control" if place == places[0] else None)
    axes.axvline(service.mean, color=_INK, lw=1, ls=":", label="the service")
    axes.set_yticks(places, [figure.name for figure in figures], fontsize=8)
    axes.set_xlabel("accuracy")
    axes.legend(frameon=False, fontsize=8)
    return plot


def _plots(curves: Sequence[Curve]) -> Iterator[tuple[str, Plot]]:
    """One picture per plot that curves name."""
    for title in dict.fromkeys(curve.plot for curve in curves):
        plot = Plot(figsize=(6.4, 3.6), dpi=110, layout="constrained")
        axes = plot.add_subplot()
        for curve in curves:
            if curve.plot == title:
                axes.plot(curve.x, curve.y, marker=".", ms=4, lw=1.4, label=curve.name)
        if title in _LOG_PLOTS:
            rates = np.geomspace(1e-3, 1)
            axes.plot(rates, rates, color=_INK, lw=1, ls=":", label="guessing")
            axes.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1.05))
            axes.set_xlabel("false-positive rate")
            axes.set_ylabel("true-positive rate")
        axes.set_title(title, fontsize=10)
        axes.legend(frameon=False, fontsize=8)
        yield title, plot
