"""Worse hardware: a provider whose error rates are a multiple of those that it promised."""

from __future__ import annotations

import numpy as np

from ...evaluation.service import Service
from ..registry import attack
from ..results import AttackResult, Control, Curve, Measurement, Plot
from .deviation import Judged, worst_case
from .faults import WORSE_HARDWARE
from .noisy_circuits import TOO_WIDE, NoisyCircuits

PLOT = Plot("accuracy on worse hardware", "error rates, as a multiple of those promised", "accuracy")
_CONTROL = "hardware as promised"


@attack(
    "worse-hardware",
    goal="integrity",
    title="Worse hardware",
    adversary="runs one provider, on hardware whose error rates are a multiple of the promised ones",
)
def run(victim: Service) -> AttackResult:
    """Accuracy on hardware that is worse than promised, beside that on hardware as promised; exact expectation values."""
    judged = Judged(victim)
    circuits, strengths = judged.service.circuits, WORSE_HARDWARE.strengths
    noisy = NoisyCircuits(circuits)
    moves = {f"{provider}, rates times {factor:g}": {provider: factor} for provider in circuits.seats for factor in strengths}
    if not noisy.simulable:
        nothing = np.full(len(victim.rows), np.nan)
        control = Control(_CONTROL, nothing)
        found = [Measurement(case, "accuracy", nothing, control, TOO_WIDE) for case in moves]
        return AttackResult([*found, Measurement("worst", "accuracy", nothing, control, TOO_WIDE, headline=True)])
    _, promised = judged.accuracies(judged.service.on_hardware({}, noisy))
    control = Control(_CONTROL, promised)
    cases = {case: judged.accuracies(judged.service.on_hardware(factors, noisy)) for case, factors in moves.items()}
    found = [Measurement(case, "accuracy", tested, control) for case, (_, tested) in cases.items()]
    means = np.array([tested.mean() for _, tested in cases.values()]).reshape(-1, len(strengths))
    curves = [
        Curve(PLOT, provider, np.array([1, *strengths]), np.array([promised.mean(), *line]))
        for provider, line in zip(circuits.seats, means, strict=True)
    ]
    return AttackResult([*found, worst_case(cases, control)], curves)
