"""The leaderboard as a Markdown page, made of validated claims alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..design import Design
from .claims import Validation, Worth

HEAD = """# Leaderboard

The best known design of every scenario, from claims that hold (`qumos validate CLAIM... --leaderboard FILE`): every design below was
measured again on the test split, under {seeds} fresh seeds. *Audited* is the reward against the thief of an audit, which is stronger than
that of rewards. Figures are means over seeds with their 95 % intervals; hand-made designs were measured under the same seeds. *Lead* is the
audited reward over that of the best of them, paired by seed.

| Scenario | found by | reward | audited | best hand-made | its audited | lead | ahead |
|---|---|---|---|---|---|---|---|
"""


def leaderboard(validations: Sequence[Validation], seeds: int) -> str:
    """The page; claims that do not hold are left out.

    Args:
        validations: of the claims, each under ``seeds`` seeds.
        seeds: how many.
    """
    sound = sorted((one for one in validations if one.holds), key=lambda one: one.claim.scenario)
    return HEAD.format(seeds=seeds) + "\n".join(map(_row, sound)) + "\n" + "".join(map(_section, sound))


def _row(one: Validation) -> str:
    worth, rival = one.worth, one.best_rival
    beside = ("–", "–", "–") if rival is None or one.lead is None else (rival, one.rivals[rival].audited.text(), one.lead.text())
    cells = (one.claim.scenario, one.claim.provenance.agent, worth.reward.text(), worth.audited.text(), *beside, _verdict(one))
    return f"| {' | '.join(cells)} |"


def _verdict(one: Validation) -> str:
    return "yes" if one.ahead else "no"


def _section(one: Validation) -> str:
    design = Design.from_dict(one.claim.design)
    parts = ", ".join(f"{part.provider}: {','.join(map(str, part.qubits))}" for part in design.parts)
    lines = [
        f"\n## {one.claim.scenario}\n",
        f"The winner is {'' if one.ahead else 'not '}ahead of every hand-made design against the audit's thief, the intervals apart.",
        f"{len(design.gates)} gates, {len(design.cut_gates)} gate cut(s), qubits by provider: {parts}. "
        f"Found with `{one.claim.provenance.command}`.\n",
        "| design | reward | audited | accuracy | thief | audit's thief |",
        "|---|---|---|---|---|---|",
        _worth_row("winner", one.worth),
        *(_worth_row(name, worth) for name, worth in sorted(one.rivals.items(), key=lambda pair: -pair[1].audited.mean)),
    ]
    return "\n".join(lines) + "\n"


def _worth_row(name: str, worth: Worth) -> str:
    accuracies = (f"{value:.3f}" for value in (worth.accuracy, worth.theft, worth.audited_theft))
    return f"| {' | '.join((name, worth.reward.text(), worth.audited.text(), *accuracies))} |"
