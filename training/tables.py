"""Results as terminal tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from .scoring import Scored, best_admissible, paired_difference
from .statistics import Interval
from .workflow import Results

HEADINGS = ("design", "reward", "acc.", "stolen", "C*", "gain", "AUC", "cost")


def results_table(results: Results, seeds: int) -> Table:
    """Winner, hand-made designs and random search side by side."""
    table = Table(title=f"Test split, mean ± 95 % over {seeds} fresh seeds", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "design" else "right", no_wrap=True)
    rows = result_rows(results)
    for number, (scored, cells) in enumerate(rows):
        table.add_row(*cells, style="bold" if number == 0 else "dim" if not scored.limits else "", end_section=number == 0)
    return table


def result_rows(results: Results) -> list[tuple[Scored, tuple[str, ...]]]:
    """The rows of the table as text, the winner first, the rest by reward."""
    others: list[Scored] = [*results.hand_made, *([results.random] if results.random is not None else [])]
    ranked = sorted(others, key=lambda scored: -scored.reward.mean)
    return [(scored, _cells(scored)) for scored in (results.winner, *ranked)]


def result_notes(results: Results) -> list[str]:
    """The sentences below the table."""
    lines = [
        f"search: {results.summary.distinct} designs in {results.summary.episodes} episodes, {results.seconds:.0f} s, "
        f"best search reward {results.search_best:.3f} (chosen by luck in part; the table is what it is worth)"
    ]
    best = best_admissible(results.hand_made)
    same = next((one.name for one in results.hand_made if one.design == results.winner.design), None)
    if same is not None:
        lines.append(f"the winner is the hand-made {same}: the search found nothing better")
    if best is not None:
        lines.append(f"winner − best hand-made ({best.name}): {interval_text(paired_difference(results.winner, best), signed=True)}")
    if results.random is not None:
        lines.append(f"winner − random search: {interval_text(paired_difference(results.winner, results.random), signed=True)}")
    if results.winner.mean("nothing_worth_stealing") > 0.5:
        lines.append("nothing worth stealing: the thief's own rows alone do as well as the winner")
    if any(not scored.limits for scored in results.hand_made):
        lines.append("dimmed designs (centralised) break the limits of the scenario and are references only")
    lines.append("stolen: the worst thief; C*: the same thief with nothing stolen (*: as good as the whole model); gain: stolen − C*")
    lines.append("intervals cover evaluation seeds (draws, initial angles), not the choice of the test split")
    return lines


def interval_text(interval: Interval, signed: bool = False) -> str:
    """``.512 ± .034``."""
    mean = short(interval.mean, "+.3f" if signed else ".3f")
    return mean if math.isnan(interval.half) else f"{mean} ± {short(interval.half)}"


def short(value: float, form: str = ".3f") -> str:
    """``value`` without a leading zero; a dash for NaN."""
    if math.isnan(value):
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


def _cells(scored: Scored) -> tuple[str, ...]:
    name = scored.name + (f" ({scored.failures} failed)" if scored.failures else "")
    flag = " *" if scored.mean("nothing_worth_stealing") > 0.5 else ""
    return (
        name,
        interval_text(scored.reward),
        short(scored.mean("accuracy")),
        short(scored.mean("theft")),
        short(scored.mean("control")) + flag,
        short(scored.mean("theft_gain"), "+.3f"),
        short(scored.mean("membership_auc")),
        short(scored.mean("cost"), ".0f"),
    )
