"""An audit as a table and as an HTML page with plots."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.figure import Figure as Plot

from ..attacks.results import Curve, Figure
from ..design.rendering import design_figure, figure_png
from ..evaluation.statistics import Interval, mean_interval
from ..html import image, page, table
from .run import GOALS, NOT_RUN, Audit

HEADINGS = ("attack", "figure", "value", "control", "gain", "what the control is")
# Figures that stand in the summary, as a pattern for their names; of an attack that is not listed, all do.
HEADLINES = {
    "service": "",
    "theft": "^best thief|^no loot",
    "transpiled-theft": "guessed ansatz, fine-tune",
    "label-recovery": "^[^,]*: labels",
    "side-channels": "strength 0.3",
    "membership": "AUC",
    "membership-gray-box": "AUC",
    "membership-shadows": "LiRA online: (AUC|TPR at 1 %)|RMIA: AUC",
    "membership-shots": "^(100|1,000) shots, 1 |^exact",
    "extraction": "^ensemble.*: (accuracy|agreement on errors)|^no victim, ensemble",
    "gradient-inversion": "^batch of .: mean error",
    "model-inversion": "weighted by answers|behind probabilities",
    "poisoning": "20%",
    "tampering": "^worst",
    "crosstalk-faults": "^worst",
    "worse-hardware": "^worst",
    "canary-detector": "false-alarm|(flipped results|worse hardware).*detection",
    "outage": "best fallback|linear model",
    "slowdown": "mean response",
}
_INK, _RED, _GREY = "#22303c", "#d1495b", "#9fb3c8"


@dataclass(frozen=True)
class _Axes:
    """How the plots whose titles match ``pattern`` are drawn."""

    pattern: str
    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    y_range: tuple[float, float] | None = None


_AXES = (
    _Axes("^membership ROC", "false-positive rate", "true-positive rate", log_x=True, log_y=True, y_range=(1e-3, 1.1)),
    _Axes("^canary ROC", "false-alarm rate", "detection rate", y_range=(0, 1.02)),
    _Axes("^extraction", "queries", ""),
    _Axes("^shots against", "shots", "", log_x=True),
    _Axes("^accuracy under|^accuracy by|^answers recovered", "strength", ""),
    _Axes("^accuracy on worse", "error rates, as a multiple of those promised", "accuracy"),
    _Axes("^accuracy with poisoned", "share of the train rows", "accuracy"),
    _Axes("^detection of", "strength", "detection rate", y_range=(0, 1.02)),
    _Axes("^labels read", "passes over the train rows", "share of labels"),
    _Axes("^response time", "utilisation of one provider", "mean, in service times"),
)


def table_rows(figures: Sequence[Figure], *, notes: bool = True) -> list[tuple[str, ...]]:
    """One row of text per figure, under ``HEADINGS``; without ``notes`` only where they say why models are missing from it."""
    return [
        (
            figure.attack,
            figure.name,
            text(figure.interval) if figure.interval.known else "n/a",
            text(figure.control_interval) if figure.control_interval.known else "-",
            text(figure.gain, signed=True) if figure.gain.known else "-",
            "; ".join(filter(None, (figure.control, figure.note if notes or not np.isfinite(figure.values).all() else ""))),
        )
        for figure in figures
    ]


def text(interval: Interval, *, signed: bool = False) -> str:
    """Mean and half-width, such as ``.731 ± .024``."""
    mean = f"{interval.mean:+.3f}" if signed else f"{interval.mean:.3f}"
    half = (interval.high - interval.low) / 2
    return f"{mean} ± {half:.3f}" if np.isfinite(half) and half > 0 else mean


def by_goal(audit: Audit, *, summary: bool = False) -> dict[str, list[Figure]]:
    """The audit's figures by what they threaten, goals without figures left out; only those of ``HEADLINES`` in a ``summary``."""
    chosen = [one for one in audit.figures if not summary or one.name == NOT_RUN or re.search(HEADLINES.get(one.attack, ""), one.name)]
    grouped = {goal: [figure for figure in chosen if figure.goal == goal] for goal in GOALS}
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
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return plot


def _plots(curves: Sequence[Curve]) -> Iterator[tuple[str, Plot]]:
    """One picture per plot that curves name."""
    for title in dict.fromkeys(curve.plot for curve in curves):
        style = next((axes for axes in _AXES if re.search(axes.pattern, title)), _Axes("", "", ""))
        plot = Plot(figsize=(6.4, 3.6), dpi=110, layout="constrained")
        axes = plot.add_subplot()
        for curve in curves:
            if curve.plot == title:
                axes.plot(curve.x, curve.y, marker=".", ms=4, lw=1.4, label=curve.name)
        if "ROC" in title:
            rates = np.geomspace(1e-3, 1)
            axes.plot(rates, rates, color=_INK, lw=1, ls=":", label="guessing")
        axes.set_xscale("log" if style.log_x else "linear")
        axes.set_yscale("log" if style.log_y else "linear")
        if style.y_range is not None:
            axes.set_ylim(*style.y_range)
        axes.set(xlabel=style.x, ylabel=style.y)
        axes.set_title(title, fontsize=10)
        axes.legend(frameon=False, fontsize=8)
        yield title, plot
