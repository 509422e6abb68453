"""An audit as an HTML page: one screen with the scorecard, and behind it every measurement, folded by threat, with plots.

What stands where is what attacks say in the fields of their results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from ..attacks.registry import GOALS, Attack, Goal
from ..attacks.results import BarChart, Curve, Measurement, Plot
from ..design.rendering import design_figure, figure_png
from ..evaluation.statistics import Interval, mean_interval
from ..html import folded, image, page, table
from .run import Audit
from .scorecard import NO_PROOF, VERDICTS, Line, Verdict, scorecard

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


def table_rows(measurements: Sequence[Measurement]) -> list[tuple[str, ...]]:
    """One row of text per measurement, under ``COLUMNS``."""
    rows: list[tuple[str, ...]] = []
    for one in measurements:
        remarks = [one.control.name] if one.control is not None else []
        if one.note:
            remarks.append(one.note)
        control = one.control_interval.text() if one.control_interval.known else "-"
        gain = one.gain.text(signed=True) if one.gain.known else "-"
        rows.append((one.name, one.interval.text(), control, gain, "; ".join(remarks)))
    return rows


def line_cells(line: Line) -> tuple[str, str, str, str]:
    """What a line is judged by, and its value, control and gain, as text."""
    one = line.measurement
    judged = "" if one is None else one.name
    means = (one.interval.mean, one.control_interval.mean) if one is not None and line.gain.known else ()
    value, control = (f"{mean:.3f}" for mean in means) if means else ("", "")
    return f"{judged} ({line.note})" if line.note else judged, value, control, line.gain.text(signed=True) if means else ""


def by_goal(audit: Audit) -> dict[Goal, list[Line]]:
    """The scorecard, by what is threatened; goals without attacks are left out."""
    lines = scorecard(audit.results)
    return {goal: found for goal in GOALS if (found := [line for line in lines if line.attack.goal == goal])}


def counted(lines: Sequence[Line]) -> list[tuple[Verdict, int]]:
    """How many lines have each verdict, the worst verdict first; those of none are left out."""
    found = [(verdict, sum(line.verdict is verdict for line in lines)) for verdict in VERDICTS]
    return [(verdict, count) for verdict, count in found if count]


def html_page(audit: Audit) -> str:
    """The whole audit as one self-contained page."""
    goals = by_goal(audit)
    lines = [line for found in goals.values() for line in found]
    names = {line.attack: f"threat-{number}" for number, line in enumerate(lines)}
    short = audit.design.hash[:12]
    drawing = image(figure_png(design_figure(audit.design, f"design {short}")), "the audited design")
    counts = ", ".join(f"<span class=whole>{_shape(one)}{count} {one.word}</span>" for one, count in counted(lines))
    parts = [
        f"<h1>Audit of design {short}</h1>",
        f"<p class='first {audit.yardstick.standing}'>{escape(audit.yardstick.sentence)}</p>",
        f"<p class=small>{escape(audit.scenario.title)} ({escape(audit.scenario.name)}), {len(audit.seeds)} fresh seeds, "
        f"{len(audit.accuracy)} trained models, chance {audit.chance:.3f}. Threats: {counts}.</p>",
        _scorecard(goals, names),
        f"<p class=small>{'; '.join(f'{_shape(one)}{one.word}: {one.meaning}' for one in VERDICTS)}. {NO_PROOF}</p>",
        folded("How to read this page", [_READING]),
        folded("The audited design", [drawing]),
    ]
    for goal, found in goals.items():
        parts.append(f"<h2>{goal.capitalize()}</h2>")
        # Attacks may share a plot: it stands with the last of them.
        last = {curve.plot: line.attack for line in found for curve in audit.results[line.attack].curves}
        curves = [curve for line in found for curve in audit.results[line.attack].curves]
        for line in found:
            summary = f"{_shape(line.verdict)}<b>{escape(line.attack.title)}</b> <span class=small>{line.verdict.word}</span>"
            plots = {plot: [one for one in curves if one.plot == plot] for plot, drawn in last.items() if drawn == line.attack}
            parts.append(folded(summary, _details(line, audit, plots), names[line.attack]))
    return page(f"Audit of {short} in {audit.scenario.name}", parts, _STYLE)


_READING = f"""
<p>Values are means over the trained models, intervals those of Student's t at 95 %. Models of one data set share its rows, so the
intervals cover the drawing of rows and initial angles, not another data set. A value means nothing without its control: what the
adversary has without the attack. The gain is value minus control, paired by model.</p>
<p>A verdict reads the gain alone, turned so that more is worse for the owner. <b>Exposed</b>: its interval lies above 0 and its mean
reaches what matters, which is named with each threat. <b>Weak</b>: its interval lies above 0, its mean does not reach that.
<b>Unclear</b>: its interval does not lie above 0, but reaches what matters. <b>Holds</b>: neither. What the owner's own checks find is to
beat their false alarms: a check holds where the interval lies above what matters, is weak where it lies above 0 alone, and leaves the
service exposed where it does neither. Where several measurements of a threat are judged, the worst verdict counts, and their intervals
are widened so that the worst of many is not worse by chance.</p>
<p>{NO_PROOF}</p>
"""
_STYLE = """
body { max-width: 74rem; margin: 1.2rem auto } .scorecard + p, details p { max-width: 62rem }
.first { font-size: 1.15rem; font-weight: 600; border-left: .4rem solid #0072b2; padding: .1rem 0 .1rem .8rem; margin: .8rem 0 }
.first.worse, .first.equal { border-color: #d55e00 } .first.better { border-color: #009e73 }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1.15rem; margin: 1.4rem 0 .2rem } b { font-weight: 600 }
.small { color: var(--dim); font-size: .85rem; margin: .3rem 0 } .shape { display: inline-block; width: 1.3em; text-align: center }
.whole { white-space: nowrap }
.scorecard { width: 100%; margin: .4rem 0; line-height: 1.3; font-size: .9rem; font-variant-numeric: tabular-nums }
.scorecard td, .scorecard th { padding: .16rem .4rem; white-space: nowrap } .scorecard a { text-decoration: none }
.scorecard tbody th { padding-top: .5rem; color: var(--dim); font-weight: 400; font-size: .85rem }
.scorecard td.what { color: var(--dim); width: 100%; white-space: normal; font-size: .8rem }
@media (max-width: 50rem) {
  body { margin: .6rem auto; padding: 0 .6rem; font-size: 14px } h1 { font-size: 1.15rem } .first { font-size: 1rem; line-height: 1.35 }
  .scorecard thead, .scorecard td.what { display: none } .scorecard td, .scorecard th { border: 0; padding: 0 .1rem }
  .scorecard tr { display: grid; grid-template-columns: 6.6rem 2.6rem 4rem 1fr; border-bottom: 1px solid var(--line); padding: .1rem 0 }
  .scorecard .word { grid-row: 1 / 3 } .scorecard .title { grid-column: 2 / 5; white-space: normal }
  .scorecard tbody th { grid-column: 1 / 5 } .scorecard .value, .scorecard .control { text-align: left }
  .scorecard .value, .scorecard .control, .scorecard .gain { grid-row: 2; font-size: .8rem; color: var(--dim) }
  .scorecard .control:not(:empty)::before { content: "vs " }
}
"""


def _scorecard(goals: Mapping[Goal, Sequence[Line]], names: Mapping[Attack, str]) -> str:
    """One line per threat, each with a link to its details."""
    headings = ("verdict", "threat", "judged by", "value", "control", "gain")
    text = ("verdict", "threat", "judged by")
    head = "".join(f"<th{' class=text' if one in text else ''}>{one}</th>" for one in headings)
    bodies = []
    for goal, lines in goals.items():
        rows = []
        for line in lines:
            link = f"<a href='#{names[line.attack]}'>{escape(line.attack.title)}</a>"
            what, *figures = map(escape, line_cells(line))
            shown = [f"{_shape(line.verdict)}{line.verdict.word}", link, what, *figures]
            cells = zip(("word text", "title text", "what text", "value", "control", "gain"), shown, strict=True)
            row = "".join(f"<td class='{kind}'>{cell}</td>" for kind, cell in cells)
            rows.append(f"<tr>{row}</tr>")
        title = f"<tr><th colspan={len(headings)} scope=rowgroup>{goal.capitalize()}</th></tr>"
        bodies.append(f"<tbody>{title}{''.join(rows)}</tbody>")
    return f"<table class=scorecard><thead><tr>{head}</tr></thead>{''.join(bodies)}</table>"


def _shape(verdict: Verdict) -> str:
    """The mark of a verdict; its word stands beside it."""
    return f"<span class=shape style='color:{verdict.colour}' aria-hidden=true>{verdict.shape}</span>"


def _details(line: Line, audit: Audit, plots: Mapping[Plot, Sequence[Curve]]) -> list[str]:
    """What stands behind a line: who the adversary is, how it was judged, and everything that was measured."""
    attack, measurements = line.attack, audit.results[line.attack].measurements
    parts = [f"<p><b>{escape(attack.name)}</b>: the adversary {escape(attack.adversary)}.</p>", f"<p>{escape(_judgement(line))}</p>"]
    classes = ["winner" if one.headline else "" for one in measurements]
    parts.append(table(list(COLUMNS), table_rows(measurements), text_columns=_TEXT, classes=classes))
    for chart in dict.fromkeys(one.chart for one in measurements if one.chart is not None):
        bars = [one for one in measurements if one.chart == chart and one.interval.known]
        parts.append(image(figure_png(_bars(chart, bars, mean_interval(audit.accuracy))), f"{chart.title}, each beside its control"))
    return [*parts, *(image(figure_png(_lines(plot, curves)), plot.title) for plot, curves in plots.items())]


def _judgement(line: Line) -> str:
    """The verdict in a sentence."""
    if line.measurement is None or not line.gain.known:
        return f"{line.verdict.word.capitalize()}: {line.note}."
    judged = f"judged by {line.measurement.name}{f' ({line.note})' if line.note else ''}"
    rule = f"a value is bad where it is {line.criterion.bad} than its control, and {line.criterion.relevant:g} matters"
    gain = f"gain {line.gain.text(signed=True)} at {line.confidence:.1%} confidence"
    return f"{line.verdict.word.capitalize()}: {line.meaning}. It is {judged}: {gain}; {rule}."


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
