"""``report.html``: one self-contained page about a run."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from agents.protocol import Trial
from qumos_env import Design
from qumos_env.design.rendering import design_figure, design_text, figure_png
from qumos_env.files import write_text
from qumos_env.html import image, page, table
from qumos_env.scenario import Scenario

from .curves import SPENT, best_so_far, measured
from .results import Results, Score
from .rundir import REPORT, RunDirectory, written
from .tables import HEADINGS, trained_models


def search_figure(scenario: Scenario, trials: Sequence[Trial], title: str) -> Figure:
    """Reward of every distinct design and the best so far, against the trained models."""
    figure = Figure(figsize=(8, 3.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    points = measured(scenario, trials)
    first_looks = [point for point in points if not point.full]
    whole = [point for point in points if point.full]
    if first_looks:
        axes.plot([p.spent for p in first_looks], [p.reward for p in first_looks], ".", ms=2, color="#dde5ec", label="designs, few draws")
    axes.plot([p.spent for p in whole], [p.reward for p in whole], ".", ms=3, color="#9fb3c8", label="designs, all draws")
    best = best_so_far([p.reward for p in whole])
    axes.plot([p.spent for p in whole], best, color="#d1495b", label="best so far, all draws")
    axes.set_xlabel(SPENT)
    axes.set_ylabel("search reward")
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.legend(frameon=False)
    return figure


def write_report(run: RunDirectory) -> None:
    """Writes ``report.html`` of a scored run.

    Raises:
        QumosError: the run has not been scored, or the page cannot be written.
    """
    results = run.results()
    plan = run.plan
    trials = run.trials()
    design = Design.from_dict(results.winner.design)
    curve = search_figure(plan.scenario, trials, f"{plan.agent} on {plan.scenario.name}, seed {plan.seed}")
    drawing = design_figure(design, f"design {design.hash[:12]}")
    parts = [
        f"<h1>{html.escape(plan.agent)} on {html.escape(plan.scenario.name)}</h1>",
        f"<p>{html.escape(plan.scenario.title)}. {html.escape(plan.scenario.description)}</p>",
        f"<p>{results.distinct} distinct designs{trained_models(results)} in {results.episodes} episodes "
        f"and {results.search_seconds:.0f} s; "
        f"best search reward {results.search_best:.3f}. Started {html.escape(run.created)}.</p>",
        "<h2>Test scores</h2>",
        _table(results),
        *(f"<p>{html.escape(line)}</p>" for line in _differences(results)),
        f"<p>Mean over {plan.test_seeds} fresh evaluation seeds on rows that no search has seen, with 95 % intervals over these seeds. "
        "Grey designs break the limits of the scenario and are references. "
        "C* is what a thief reaches with its own rows and nothing stolen.</p>",
        "<h2>Search</h2>",
        image(figure_png(curve), "search rewards"),
        *_front(results),
        "<h2>Winning design</h2>",
        image(figure_png(drawing), "the winning design"),
        f"<pre>{html.escape(design_text(design))}</pre>",
        "<h2>Repeat it</h2>",
        f"<pre>{html.escape(' '.join(run.command))}</pre>",
        f"<pre>{html.escape(_facts(run))}</pre>",
    ]
    with written(run.path / REPORT):
        write_text(run.path / REPORT, page(f"{plan.agent} on {plan.scenario.name}", parts))


def _table(results: Results) -> str:
    rows = [_row(score) for score in (results.winner, *results.rivals)]
    return table(HEADINGS, rows, classes=["winner", *("" if score.within_limits else "reference" for score in results.rivals)])


def _row(score: Score) -> list[str]:
    reward = f"{score.reward:.3f}" + ("" if math.isnan(score.interval.half) else f" ± {score.interval.half:.3f}")
    measured = (score.accuracy, score.theft, score.control, score.theft_gain, score.membership_auc)
    cost = "-" if score.cost is None else f"{score.cost:.0f}"
    return [score.name, reward, *("-" if value is None else f"{value:.3f}" for value in measured), cost]


def _front(results: Results) -> list[str]:
    if not results.front:
        return []
    headings = ("design", "accuracy", "security", "cost", "search reward")
    rows = [
        [point.design_hash[:8], f"{point.accuracy:.3f}", f"{point.security:.3f}", f"{point.cost:.0f}", f"{point.reward:.3f}"]
        for point in results.front
    ]
    return [
        "<h2>Accuracy, security and cost</h2>",
        table(headings, rows),
        f"<p>The {len(rows)} designs of this search, measured with all draws, that no other one beats in all three at once; on the search "
        "rows, so luck is part of it. Security is what resistance to the adversaries adds to the reward. "
        "The designs themselves are in results.json.</p>",
    ]


def _differences(results: Results) -> list[str]:
    lines = []
    if results.winner_is_hand_made:
        lines.append(f"The winner is the hand-made {results.winner_is_hand_made}: the search found nothing better.")
    others = ((results.best_hand_made, results.winner_minus_best_hand_made), ("random search", results.winner_minus_random))
    for other, difference in others:
        if difference is not None:
            found = difference.interval
            limits = "" if math.isnan(found.half) else f" ({found.low:+.3f} to {found.high:+.3f})"
            lines.append(f"Winner − {other}, paired over seeds: {found.mean:+.3f}{limits}")
    return lines


def _facts(run: RunDirectory) -> str:
    plan = run.plan
    facts = {name: getattr(plan, name) for name in ("budget", "time_limit", "seed", "workers", "warm_start", "test_seeds")}
    facts |= {"settings": dict(plan.settings), "scenario_hash": plan.scenario.hash, "versions": run.versions}
    return json.dumps(facts, indent=2)
