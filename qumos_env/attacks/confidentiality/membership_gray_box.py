"""Membership inference by a classifier that was fitted on rows of known membership (Su et al., arXiv 2509.06086)."""

from __future__ import annotations

import numpy as np

from ...evaluation.membership import fit_gray_box, gray_box_scores
from ...evaluation.service import Service
from ...seeds import label
from ..registry import attack
from ..results import AttackResult, Measurement
from .member_scores import GUESS, ask_about, balanced_split, measured, per_model, per_unit, roc, unit_note

FITTED_SHARE = 0.5
"""Share of the labelled rows on which the attack is fitted; it is scored on the others."""


@attack(
    "membership-gray-box",
    goal="confidentiality",
    title="Membership by a gray box",
    adversary="sees the service's answers to rows whose labels it knows, and knows of half of them whether they were members",
)
def run(victim: Service, members: np.ndarray | None = None, others: np.ndarray | None = None) -> AttackResult:
    """The classifier, fitted on half of the members ``[K, m]`` and non-members ``[K, n]`` and scored on the others; see ``ask_about``.

    Fitted and scored rows hold as many members as non-members of every class.

    Raises:
        QumosError: a row is in both; no class has two rows of each.
    """
    asked = ask_about(victim, members, others)
    inside, outside = [], []
    for index, (answers, rows) in enumerate(zip(asked.answers, asked.rows, strict=True)):
        labels = victim.observed_labels[rows]
        generator = np.random.default_rng([victim.seed, index, label("gray box: split")])
        fitted, scored = balanced_split(labels, asked.member, FITTED_SHARE, generator)
        network = fit_gray_box(answers[fitted], labels[fitted], asked.member[fitted], [victim.seed, index, label("gray box: fit")])
        scores = gray_box_scores(network, answers[scored], labels[scored])
        inside.append(scores[asked.member[scored]])
        outside.append(scores[~asked.member[scored]])
    right = np.array([(np.mean(one > 0.5) + np.mean(two <= 0.5)) / 2 for one, two in zip(inside, outside, strict=True)])
    note = unit_note(victim)
    found = measured("gray box", per_unit(victim, per_model(inside, outside)), inside, outside, note)
    balanced = Measurement("gray box", "balanced accuracy", per_unit(victim, right), GUESS, note)
    return AttackResult([*found, balanced], [roc("gray box", inside, outside)])
