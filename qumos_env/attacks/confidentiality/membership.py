"""Membership inference by the loss (Yeom et al., 2018): rows that a model answers more surely than others are called members."""

from __future__ import annotations

import numpy as np

from ...evaluation.membership import loss_scores
from ...evaluation.service import Service
from ..registry import attack
from ..results import AttackResult
from .member_scores import ask_about, measured, per_model, per_unit, roc, unit_note


@attack(
    "membership",
    goal="confidentiality",
    title="Membership by the loss",
    adversary="sees the service's answers to rows whose labels it knows, and ranks them by their loss",
)
def run(victim: Service, members: np.ndarray | None = None, others: np.ndarray | None = None) -> AttackResult:
    """The loss of members ``[K, m]`` against that of non-members ``[K, n]``, by row numbers; default as ``ask_about``.

    Raises:
        QumosError: a row is in both.
    """
    asked = ask_about(victim, members, others)
    labels = victim.observed_labels[asked.rows]
    scores = [_standardised(loss_scores(*one)) for one in zip(asked.answers, labels, strict=True)]
    inside, outside = [one[asked.member] for one in scores], [one[~asked.member] for one in scores]
    values = per_unit(victim, per_model(inside, outside))
    return AttackResult(measured("loss", values, inside, outside, unit_note(victim)), [roc("loss", inside, outside)])


def _standardised(scores: np.ndarray) -> np.ndarray:
    """Scores of one model in units that models share: from their median, by their mean distance from it."""
    centred = scores - np.median(scores)
    return centred / max(float(np.mean(np.abs(centred))), float(np.finfo(float).tiny))
