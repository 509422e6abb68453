"""The scorecard of an audit: one line per threat with its verdict, and before all of them the model against a linear model.

The rule reads the paired gain of a measurement over its control, and nothing else. Turned so that a positive gain is bad for the owner,
with the least gain r that matters in practice (``Criterion``):

- ``exposed``: the interval of the gain lies above 0, its mean reaches r;
- ``weak``: it lies above 0, its mean does not reach r;
- ``unclear``: it does not lie above 0, but reaches r;
- ``holds``: it neither lies above 0 nor reaches r;
- ``not measured``: there is no value, or no control beside it.

What an owner's check finds (``no higher``) is to beat its false alarms: it ``holds`` where the interval lies above r, is ``weak`` where it
lies above 0 alone, ``unclear`` where it holds 0 and reaches r, else ``exposed``.

An attack that is judged by m measurements gets the worst of their verdicts, from intervals of confidence 1 - 5 %/m (Bonferroni), so that
the worst of many is not worse by chance. It holds only if all of them were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attacks.registry import Attack, Goal
from ..attacks.results import RELEVANT, AttackResult, Criterion, Measurement
from ..evaluation.statistics import CONFIDENCE, Interval, mean_interval


@dataclass(frozen=True)
class Verdict:
    """What a measurement says about a threat.

    Attributes:
        word: its name.
        meaning: in a few words.
        mark: in ASCII.
        shape: one character of a page; differs from the others without its colour.
        colour: hexadecimal, told apart by colour-blind readers (after Okabe and Ito, 2008), on light and on dark.
    """

    word: str
    meaning: str
    mark: str
    shape: str
    colour: str


EXPOSED = Verdict("exposed", "a gain over the control that matters", "[X]", "\N{BLACK SQUARE}", "#d55e00")
WEAK = Verdict("weak", "a gain over the control, too small to matter by itself", "[!]", "\N{BLACK UP-POINTING TRIANGLE}", "#e69f00")
UNCLEAR = Verdict("unclear", "too few models, or too little measured, to tell", "[?]", "\N{BLACK DIAMOND}", "#3d8fd1")
HOLDS = Verdict("holds", "no gain over the control found by the attacks tried", "[o]", "\N{BLACK CIRCLE}", "#009e73")
NOT_MEASURED = Verdict("not measured", "no value, or no control beside it", "[-]", "\N{EN DASH}", "#767676")
VERDICTS = (EXPOSED, WEAK, UNCLEAR, HOLDS, NOT_MEASURED)
"""The worst first."""
CHECKED = {
    EXPOSED: "the owner's check finds no more than its false alarms",
    WEAK: "the owner's check finds more than its false alarms, but seldom",
    HOLDS: "the owner's check finds what was tried",
}
"""What verdicts mean of an owner's check."""
NO_PROOF = "A verdict is about the attacks tried, with the rows they had: it is no proof of safety."

GOAL_CRITERIA: Mapping[Goal, Criterion] = {
    "confidentiality": Criterion("higher"),
    "integrity": Criterion("lower"),
    "availability": Criterion("lower"),
}
"""Of attacks that declare none: what an adversary gets to know is bad where it is higher, what is left of a service where it is lower."""


@dataclass(frozen=True, eq=False)
class Line:
    """A threat in the scorecard.

    Attributes:
        attack: the threat.
        verdict: on it.
        measurement: the one that decides the verdict; ``None`` where the attack measured nothing at all.
        criterion: by which that is judged.
        gain: of it, paired, at ``confidence``.
        confidence: of the interval: wider where more measurements are judged.
        judged: how many measurements are judged.
        missing: how many more should have been, and have no gain.
    """

    attack: Attack
    verdict: Verdict
    measurement: Measurement | None
    criterion: Criterion
    gain: Interval
    confidence: float
    judged: int
    missing: int

    @property
    def meaning(self) -> str:
        """Of the verdict."""
        checked = CHECKED if self.criterion.bad == "no higher" else {}
        return checked.get(self.verdict, self.verdict.meaning)

    @property
    def note(self) -> str:
        """Of how many measurements it is the worst, and what is missing."""
        if self.verdict is NOT_MEASURED:
            reason = "" if self.measurement is None else self.measurement.note
            return reason or "no control"
        chosen = f"worst of {self.judged}" if self.judged > 1 else ""
        return ", ".join(filter(None, (chosen, f"{self.missing} more not measured" if self.missing else "")))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        one = self.measurement
        unknown = Interval(np.nan, np.nan, np.nan)
        return {
            "attack": self.attack.name,
            "goal": self.attack.goal,
            "title": self.attack.title,
            "verdict": self.verdict.word,
            "meaning": self.meaning,
            "measured": None if one is None else one.name,
            "value": (unknown if one is None else one.interval).to_dict(),
            "control": (unknown if one is None else one.control_interval).to_dict(),
            "control_name": "" if one is None or one.control is None else one.control.name,
            "gain": self.gain.to_dict(),
            "confidence": self.confidence,
            "bad": self.criterion.bad,
            "relevant": self.criterion.relevant,
            "judged": self.judged,
            "missing": self.missing,
            "note": self.note,
        }


def verdict(gain: Interval, criterion: Criterion) -> Verdict:
    """What a paired ``gain`` says by ``criterion``; see the module."""
    if not gain.known:
        return NOT_MEASURED
    low, mean, high = (-gain.high, -gain.mean, -gain.low) if criterion.bad == "lower" else (gain.low, gain.mean, gain.high)
    relevant, check = criterion.relevant, criterion.bad == "no higher"
    if not np.isfinite(low):
        return UNCLEAR
    if low > 0:
        # What harms the owner is told at the mean, what is to help it only where that is sure.
        reached = low >= relevant if check else mean >= relevant
        return (HOLDS if check else EXPOSED) if reached else WEAK
    if high >= relevant:
        return UNCLEAR
    return EXPOSED if check else HOLDS


def scorecard(results: Mapping[Attack, AttackResult]) -> list[Line]:
    """A line for every attack, in their order."""
    return [_line(attack, result) for attack, result in results.items()]


def _line(attack: Attack, result: AttackResult) -> Line:
    wanted = _judged(attack, result)
    known = [(one, criterion) for one, criterion in wanted if one.gain.known]
    if not known:
        nothing = Interval(np.nan, np.nan, np.nan)
        one, criterion = wanted[0] if wanted else (None, GOAL_CRITERIA[attack.goal])
        return Line(attack, NOT_MEASURED, one, criterion, nothing, CONFIDENCE, 0, len(wanted))
    confidence = 1 - (1 - CONFIDENCE) / len(known)
    missing = len(wanted) - len(known)
    lines = []
    for one, criterion in known:
        gain = mean_interval(one.gains, confidence)
        found = verdict(gain, criterion)
        if found is HOLDS and missing:
            found = UNCLEAR
        lines.append(Line(attack, found, one, criterion, gain, confidence, len(known), missing))
    return min(lines, key=lambda line: (VERDICTS.index(line.verdict), -_harm(line)))


def _judged(attack: Attack, result: AttackResult) -> list[tuple[Measurement, Criterion]]:
    """The measurements that decide, each with its criterion."""
    declared = [(one, one.criterion) for one in result.measurements if one.criterion is not None]
    headlines = [one for one in result.measurements if one.headline]
    return declared or [(one, GOAL_CRITERIA[attack.goal]) for one in headlines or result.measurements]


def _harm(line: Line) -> float:
    """The mean gain in units of what matters, the more the worse for the owner."""
    sign = 1 if line.criterion.bad == "higher" else -1
    return sign * line.gain.mean / line.criterion.relevant


# The model against a linear model

_STANDINGS = {
    "better": "The model does better than a linear model trained on the same rows",
    "worse": "The model does worse than a linear model trained on the same rows, which needs no provider",
    "equal": "The model does no better than a linear model trained on the same rows, which needs no provider",
    "unclear": "Whether the model does better than a linear model trained on the same rows is unclear",
}


@dataclass(frozen=True)
class Yardstick:
    """The model against a linear model on the same rows, over the trained models.

    Attributes:
        model: accuracy of the service on the test split.
        linear: that of a logistic regression on the raw features of the same train rows.
        gain: of the model over it, paired.
    """

    model: Interval
    linear: Interval
    gain: Interval

    @classmethod
    def of(cls, model: np.ndarray, linear: np.ndarray) -> Yardstick:
        """From accuracies ``[units]`` that are paired."""
        return cls(mean_interval(model), mean_interval(linear), mean_interval(model - linear))

    @property
    def standing(self) -> str:
        """``better`` or ``worse`` where the gain's interval excludes 0; ``equal`` where it stays within ``RELEVANT``, else ``unclear``."""
        low, high = self.gain.low, self.gain.high
        if low > 0:
            return "better"
        if high < 0:
            return "worse"
        return "equal" if low > -RELEVANT and high < RELEVANT else "unclear"

    @property
    def sentence(self) -> str:
        """What comes first in every report."""
        figures = f"right on {self.model.text()} of the test rows, against {self.linear.text()}"
        return f"{_STANDINGS[self.standing]}: {figures} (difference {self.gain.text(signed=True)})."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "standing": self.standing,
            "model": self.model.to_dict(),
            "linear": self.linear.to_dict(),
            "gain": self.gain.to_dict(),
            "sentence": self.sentence,
        }
