"""The term of accuracy: how well the owner's model classifies rows that nobody was trained on."""

from __future__ import annotations

import numpy as np

from .terms import Evidence, Observed, Subject, TermResult, term


def _of_service(subject: Subject) -> Observed:
    right = subject.answers("score").argmax(axis=-1) == subject.together("score_labels")
    return {"accuracy": np.mean(right, axis=-1)}


@term("accuracy", observe=_of_service, always=True)
def accuracy(evidence: Evidence, observed: Observed) -> TermResult:
    """Reports ``accuracy``, and ``chance``, the majority frequency of the scored rows."""
    return TermResult({"accuracy": observed["accuracy"]}, lambda standing, _: standing.learned, {"chance": evidence.chance})
