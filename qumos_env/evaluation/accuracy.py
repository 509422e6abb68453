"""The term of accuracy: how well the owner's model classifies rows that nobody was trained on."""

from __future__ import annotations

from .terms import Subject, TermResult, term


@term("accuracy", always=True)
def accuracy(subject: Subject) -> TermResult:
    """Reports ``accuracy``, and ``chance``, the majority frequency of the scored rows."""
    return TermResult({"accuracy": subject.accuracy}, lambda standing, _: standing.learned, {"chance": subject.chance})
