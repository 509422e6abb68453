"""Tampering: a provider that changes its circuit, its parameters or its results."""

from __future__ import annotations

from ...evaluation.service import Service
from ..registry import attack
from ..results import AttackResult
from .deviation import under_faults
from .faults import TAMPERING


@attack(
    "tampering",
    goal="integrity",
    title="Tampering",
    adversary="runs one provider, or has broken into it: changes its gates and angles, or the results that it returns",
)
def run(victim: Service) -> AttackResult:
    """Accuracy while one provider tampers."""
    return under_faults(victim, TAMPERING)
