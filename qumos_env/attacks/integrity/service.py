"""What the service is worth as it really runs: exact expectation values, finite shots, and the providers' noise.

No adversary is needed to lose accuracy on real hardware; every other figure of an audit has to be read beside these.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...evaluation.service import Service
from ...model.qnn import QNN
from ...simulation.channels import NoiseSpec
from ..registry import attack
from ..results import AttackResult, Figure
from .noisy_circuits import MAX_NOISY_QUBITS, PROMISED

NAME = "service"
SHOTS = 1000
_EXACT = "exact expectation values"
# Number of the question, far from those of other attacks.
_USE = 0x5E60


@attack(NAME, "integrity", "is nobody: the hardware itself, with finite shots and its noise")
def service_modes(victim: Service) -> AttackResult:
    """Accuracy from exact expectation values, from shots, with the providers' noise, and with both."""
    design = victim.design
    named = victim.scenario.provider_noise
    noise = named or dict.fromkeys(dict.fromkeys(design.assignment), PROMISED)
    source = "noise of the scenario's providers" if named else "no provider names its noise: typical rates are assumed"
    shots = design.shots or SHOTS
    exact = _accuracy(victim, None, {})
    figures = [_figure("exact: accuracy", exact, exact, "")]
    figures.append(_figure(f"{shots:,} shots: accuracy", _accuracy(victim, shots, {}), exact, ""))
    widest = max(len(engine.qubits) for engine in victim.model.stack.engines)
    for name, count in (("noise: accuracy", None), (f"noise and {shots:,} shots: accuracy", shots)):
        if widest > MAX_NOISY_QUBITS:
            note = f"n/a: exact noise is simulated up to {MAX_NOISY_QUBITS} qubits a fragment, one has {widest}"
            figures.append(_figure(name, np.full(len(exact), np.nan), exact, note))
        else:
            figures.append(_figure(name, _accuracy(victim, count, noise), exact, source))
    return AttackResult(figures)


def _figure(name: str, values: np.ndarray, exact: np.ndarray, note: str) -> Figure:
    return Figure("integrity", NAME, name, values, controls=exact, control=_EXACT, note=note)


def _accuracy(victim: Service, shots: int | None, noise: dict[str, NoiseSpec]) -> np.ndarray:
    scenario = victim.scenario
    model = QNN(replace(victim.design, shots=shots), victim.n_classes, scenario.model, scenario.data.axis, noise)
    answers = model.answers(victim.trained, victim.encode(victim.test), victim.keys(_USE))
    return np.mean(answers.argmax(axis=-1) == victim.labels[victim.test], axis=1)
