"""Results as terminal tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from qumos_env.evaluation.statistics import Interval

from .results import FrontPoint, Results, Score

HEADINGS = ("design", "reward", "acc.", "stolen", "C*", "gain", "AUC", "cost")


def results_table(results: Results) -> Table:
    """Winner, hand-made designs and random search side by side."""
    seeds = len(results.winner.rewards)
    table = Table(title=f"Test split, mean ± 95 % over {seeds} fresh seeds", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "design" else "right", no_wrap=True)
    table.add_row(*_cells(results.winner), style="bold", end_section=True)
    for score in results.rivals:
        table.add_row(*_cells(score), style="" if score.within_limits else "dim")
    return table


def result_notes(results: Results) -> list[str]:
    """The sentences below the table."""
    lines = [
        f"search: {results.distinct} designs{trained_models(results)} in {results.episodes} episodes, {results.search_seconds:.0f} s, "
        f"best search reward {results.search_best:.3f} (chosen by luck in part; the table is what it is worth)"
    ]
    if results.front:
        best, last = results.front[0], results.front[-1]
        lines.append(
            f"not beaten in accuracy, security and cost at once: {len(results.front)} designs, from {_point(best)} to {_point(last)}; "
            "report.html lists them"
        )
    if not results.winner.within_limits:
        lines.append("the winner breaks the limits of the scenario: it is a reference, not a solution")
    if results.winner_is_hand_made is not None:
        lines.append(f"the winner is the hand-made {results.winner_is_hand_made}: the search found nothing better")
    if results.winner_minus_best_hand_made is not None:
        difference = interval_text(results.winner_minus_best_hand_made.interval, signed=True)
        lines.append(f"winner − best hand-made ({results.best_hand_made}): {difference}")
    if results.winner_minus_random is not None:
        lines.append(f"winner − random search: {interval_text(results.winner_minus_random.interval, signed=True)}")
    if (results.winner.nothing_worth_stealing or 0.0) > 0.5:
        lines.append("nothing worth stealing: the thief's own rows alone do as well as the winner")
    if not all(score.within_limits for score in results.hand_made):
        lines.append("dimmed designs (centralised) break the limits of the scenario and are references only")
    lines.append("stolen: the worst thief; C*: the same thief with nothing stolen (*: as good as the whole model); gain: stolen − C*")
    lines.append("intervals cover evaluation seeds (draws, initial angles), not the choice of the test split")
    return lines


def trained_models(results: Results) -> str:
    """How many models the search trained, in brackets; nothing where it did not count."""
    return "" if results.draws is None else f" ({results.draws} trained models)"


def _point(point: FrontPoint) -> str:
    return f"{short(point.accuracy)}/{short(point.security)}/{short(point.cost, '.0f')}"


def interval_text(interval: Interval, signed: bool = False) -> str:
    """``.512 ± .034``."""
    mean = short(interval.mean, "+.3f" if signed else ".3f")
    return mean if math.isnan(interval.half) else f"{mean} ± {short(interval.half)}"


def short(value: float | None, form: str = ".3f") -> str:
    """``value`` without a leading zero; a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    text = format(value, form)
    return text.replace("0.", ".", 1) if text.lstrip("+-").startswith("0.") else text


def comparison_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of text cells, the first column flush left."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _cells(score: Score) -> tuple[str, ...]:
    flag = " *" if (score.nothing_worth_stealing or 0.0) > 0.5 else ""
    return (
        escape(score.name) + (f" ({score.failures} failed)" if score.failures else ""),
        interval_text(score.interval),
        short(score.accuracy),
        short(score.theft),
        short(score.control) + flag,
        short(score.theft_gain, "+.3f"),
        short(score.membership_auc),
        short(score.cost, ".0f"),
    )
