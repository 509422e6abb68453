"""Membership inference with shadow models: LiRA (Carlini et al., 2022) and RMIA (Zarifzadeh et al., 2024); see ``shadow_models``."""

from __future__ import annotations

import numpy as np

from ...evaluation.service import Service
from ..registry import attack
from ..results import AttackResult
from .member_scores import measured, per_model, roc
from .shadow_models import SHADOW_SCORES, Shadows, ShadowScore, Signals, pair_jackknife, shadow_scores

_JACKKNIFE_NOTE = "jackknife pseudo-values, one per pair of models, since the targets share their shadow models"
_HEADLINES = {"LiRA online": 2, "RMIA": 1}  # see member_scores.measured


@attack(
    "membership-shadows",
    goal="confidentiality",
    title="Membership by shadow models",
    adversary="sees the service's answers to rows whose labels it knows; knows the design, and trains it on data of the same distribution",
)
def run(victim: Service) -> AttackResult:
    """LiRA online and offline and RMIA, every shadow model being the target once.

    Raises:
        QumosError, EvaluationFailure: see ``Shadows.train``.
    """
    return shadow_attack(Shadows.against(victim).signals())


def shadow_attack(signals: Signals) -> AttackResult:
    """The same on what shadow models answered."""
    result = AttackResult()
    for name, score in SHADOW_SCORES.items():
        inside, outside = _by_membership(signals, score)
        values = pair_jackknife(signals, lambda some, score=score: per_model(*_by_membership(some, score)).mean(axis=0))  # type: ignore[misc]
        result.measurements.extend(measured(name, values, inside, outside, _JACKKNIFE_NOTE, _HEADLINES.get(name, 0)))
        result.curves.append(roc(name, inside, outside))
    return result


def _by_membership(signals: Signals, score: ShadowScore) -> tuple[list[np.ndarray], list[np.ndarray]]:
    pairs = list(zip(shadow_scores(signals, score), signals.member, strict=True))
    return [scores[member] for scores, member in pairs], [scores[~member] for scores, member in pairs]
