"""``comparison.html``: one self-contained page, whose figures answer to the mouse."""

from __future__ import annotations

import html
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from qumos_env import Design
from qumos_env.design.rendering import design_figure, figure_png
from qumos_env.evaluation.statistics import Interval
from qumos_env.files import write_text
from qumos_env.html import folded, image, page, table

from ..curves import SPENT
from ..statistics import performance_profile
from .results import Comparison, ScenarioResults
from .tables import AGGREGATE, HEADINGS, aggregate, aggregate_rows, improvements, scenario_rows

_COLOURS = ("#2f6db3", "#d1495b", "#3a9d5d", "#e0a030", "#7a5cc0", "#2a9d9d", "#8c6d46", "#c060a0", "#60708c", "#a0b040", "#b05030")
_LEVELS = np.linspace(0, 1, 51)


def write_page(data: Comparison, path: Path) -> None:
    """Writes the page of ``data``; OSError where it cannot."""
    colours = {agent: _COLOURS[number % len(_COLOURS)] for number, agent in enumerate(data.agents)}
    parts = [
        f"<script>{get_plotlyjs()}</script>",
        "<h1>Comparison of agents</h1>",
        f"<p>{len(data.agents)} agents, {len(data.scenarios)} scenario(s), {data.seeds} run(s) each, {data.budget} designs' worth of draws "
        f"a run. Winners are scored on the test split under {data.test_seeds} fresh seeds.</p>",
        "<h2>All scenarios</h2>",
        "<p>Test rewards in units of the best run or hand-made design of each scenario.</p>",
        table(AGGREGATE, aggregate_rows(data)),
        _shown(_aggregate_figure(data, colours)),
        _shown(_profile_figure(data, colours)),
        _shown(_improvement_figure(data)) if len(data.agents) > 1 else "",
    ]
    for name, one in data.scenarios.items():
        parts += [f"<h2>{html.escape(name)}</h2>", table(HEADINGS, scenario_rows(one)), *_scenario_figures(one, colours)]
    command = shlex.join(data.command)
    parts += ["<h2>Repeat it</h2>", f"<pre>{html.escape(command)}</pre>"]
    write_text(path, page("Comparison of agents", parts))


def _shown(figure: go.Figure) -> str:
    figure.update_layout(template="plotly_white", margin={"l": 60, "r": 20, "t": 50, "b": 50}, height=420)
    shown = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
    return f"<div class=wide>{shown}</div>"


def _aggregate_figure(data: Comparison, colours: dict[str, str]) -> go.Figure:
    found = aggregate(data)
    figure = go.Figure()
    for name in sorted(data.agents, key=lambda agent: found[agent].mean):
        one = found[name]
        bars = {"type": "data", "symmetric": False, "array": [one.high - one.mean], "arrayminus": [one.mean - one.low]}
        figure.add_scatter(x=[one.mean], y=[name], error_x=bars, mode="markers", marker={"color": colours[name], "size": 10}, name=name)
    figure.add_vline(x=found["hand-made"].mean, line_dash="dot", annotation_text="best hand-made", annotation_position="top left")
    return figure.update_layout(title="Interquartile mean over runs and scenarios, 95 % intervals", showlegend=False)


def _profile_figure(data: Comparison, colours: dict[str, str]) -> go.Figure:
    figure = go.Figure()
    for agent in data.agents:
        profile = performance_profile(data.scores(agent), _LEVELS)
        band = {"x": np.concatenate([_LEVELS, _LEVELS[::-1]]), "y": np.concatenate([profile.high, profile.low[::-1]])}
        look = {"fillcolor": colours[agent], "opacity": 0.15, "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(**band, fill="toself", **look)
        figure.add_scatter(x=_LEVELS, y=profile.share, name=agent, line={"color": colours[agent]})
    figure.update_xaxes(title="score τ")
    figure.update_yaxes(title="share of runs above τ", range=[0, 1.02])
    return figure.update_layout(title="Performance profiles")


def _improvement_figure(data: Comparison) -> go.Figure:
    found, agents = improvements(data), list(data.agents)
    values = [[None if a == b else found[a, b].mean for b in agents] for a in agents]

    def said(one: Interval) -> str:
        return f"{one.mean:.2f}<br>[{one.low:.2f}, {one.high:.2f}]"

    texts = [["" if a == b else said(found[a, b]) for b in agents] for a in agents]
    cells = go.Heatmap(z=values, x=agents, y=agents, text=texts, texttemplate="%{text}", zmin=0, zmax=1, colorscale="RdBu")
    figure = go.Figure(cells)
    figure.update_yaxes(autorange="reversed")
    return figure.update_layout(title="How likely a run of the row is better than one of the column")


def _scenario_figures(one: ScenarioResults, colours: dict[str, str]) -> list[str]:
    curves = go.Figure()
    for agent, runs in one.agents.items():
        numbers = _thinned(range(len(runs.curve)))
        curves.add_scatter(x=[n + 1 for n in numbers], y=[runs.curve[n] for n in numbers], name=agent, line={"color": colours[agent]})
    curves.update_xaxes(title=SPENT)
    curves.update_yaxes(title="best search reward so far")
    curves.update_layout(title="Search, mean over runs")
    drawings = []
    for agent, runs in one.agents.items():
        best = max(runs.winners, key=lambda winner: winner.reward)
        design = Design.from_dict(best.design)
        drawing = figure_png(design_figure(design, f"{agent}: test reward {best.reward:.3f}"))
        drawings.append(image(drawing, f"the best design of {agent}"))
    return [_shown(curves), _shown(_front(one, colours)), _shown(_theft(one, colours)), folded("The best design of every agent", drawings)]


def _front(one: ScenarioResults, colours: dict[str, str]) -> go.Figure:
    """Winners by accuracy and by what a thief lacks; the size of a point is what the design costs."""
    figure = go.Figure()
    groups = {agent: runs.winners for agent, runs in one.agents.items()} | {"hand-made": one.hand_made}
    costs = [score.cost or 0.0 for scores in groups.values() for score in scores]
    largest = max([*costs, 1e-9])
    for name, scores in groups.items():
        known = [score for score in scores if score.accuracy is not None and score.theft is not None and score.within_limits]
        figure.add_scatter(
            x=[score.accuracy for score in known],
            y=[(score.accuracy or 0.0) - max(score.theft or 0.0, score.control or 0.0) for score in known],
            mode="markers",
            name=name,
            marker={
                "color": colours.get(name, "#999999"),
                "symbol": "circle" if name in colours else "x",
                "size": [8 + 16 * (score.cost or 0.0) / largest for score in known],
            },
            text=[f"{score.name}<br>reward {score.reward:.3f}<br>cost {score.cost}" for score in known],
        )
    figure.update_xaxes(title="accuracy")
    figure.update_yaxes(title="accuracy − strongest thief or control")
    return figure.update_layout(title="Accuracy, security and cost (size) of the winners")


def _theft(one: ScenarioResults, colours: dict[str, str]) -> go.Figure:
    """What is stolen from the winners, beside what needs no theft."""
    figure = go.Figure()
    names = list(one.agents)
    bars = (("accuracy", "owner", "#2f6db3"), ("theft", "thief", "#d1495b"), ("control", "control C*", "#b8c4ce"))
    for quantity, title, colour in bars:
        means = [np.mean([getattr(winner, quantity) or 0.0 for winner in one.agents[name].winners]) for name in names]
        figure.add_bar(x=names, y=means, name=title, marker_color=colour)
    figure.update_yaxes(title="accuracy")
    return figure.update_layout(title="Winners: owner, thief, and control without loot", barmode="group")


def _thinned(numbers: Sequence[int], most: int = 300) -> list[int]:
    step = max(1, len(numbers) // most)
    return list(numbers[::step])
