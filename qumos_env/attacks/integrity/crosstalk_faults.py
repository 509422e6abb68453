"""Crosstalk faults: a co-tenant of a provider's machine that injects coherent errors.

ZZ coupling to a neighbour in a known state turns an outer qubit about Z, a drive that leaks turns it about X, by the same unknown
angle behind every moment. That co-tenants can inject faults in this way: Ash-Saki, Alam, Ghosh, "Analysis of crosstalk in NISQ devices
and security implications in multi-programming regime" (ISLPED 2020).
"""

from __future__ import annotations

from ...evaluation.service import Service
from ..registry import attack
from ..results import AttackResult
from .deviation import under_faults
from .faults import CROSSTALK


@attack(
    "crosstalk-faults",
    goal="integrity",
    title="Crosstalk faults",
    adversary="is a co-tenant of one provider: drives qubits beside the victim's outer ones while its circuit runs",
)
def run(victim: Service) -> AttackResult:
    """Accuracy while a co-tenant disturbs one provider."""
    return under_faults(victim, (CROSSTALK,))
