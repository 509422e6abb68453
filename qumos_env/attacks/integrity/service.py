"""What the service is worth as it really runs: exact expectation values, finite shots, and the providers' noise.

No adversary is needed to lose accuracy on real hardware; everything else that an audit measures has to be read beside this.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...evaluation.service import Service
from ...model.qnn import QNN
from ...simulation.channels import NoiseSpec
from ..registry import attack
from ..results import AttackResult, Control, Criterion, Measurement
from .noisy_circuits import MAX_NOISY_QUBITS, PROMISED

SHOTS = 1000


@attack(
    "service",
    goal="integrity",
    title="The service as it really runs",
    adversary="is nobody: the hardware itself, with finite shots and its noise",
)
def run(victim: Service) -> AttackResult:
    """Accuracy from exact expectation values, from shots, with the providers' noise, and with both."""
    design = victim.design
    named = victim.scenario.provider_noise
    noise = named or dict.fromkeys(dict.fromkeys(design.assignment), PROMISED)
    source = "noise of the scenario's providers" if named else "no provider names its noise: typical rates are assumed"
    shots = design.shots or SHOTS
    exact = _accuracy(victim, None, {})
    found = []

    def measured(case: str, accuracies: np.ndarray, note: str = "") -> None:
        control, criterion = Control("exact expectation values", exact), None if accuracies is exact else Criterion("lower")
        found.append(Measurement(case, "accuracy", accuracies, control, note, headline=True, criterion=criterion))

    measured("exact", exact)
    measured(f"{shots:,} shots", _accuracy(victim, shots, {}))
    widest = max(len(engine.qubits) for engine in victim.model.stack.engines)
    for case, count in (("noise", None), (f"noise and {shots:,} shots", shots)):
        if widest > MAX_NOISY_QUBITS:
            note = f"n/a: exact noise is simulated up to {MAX_NOISY_QUBITS} qubits a fragment, one has {widest}"
            measured(case, np.full(len(exact), np.nan), note)
        else:
            measured(case, _accuracy(victim, count, noise), source)
    return AttackResult(found)


def _accuracy(victim: Service, shots: int | None, noise: dict[str, NoiseSpec]) -> np.ndarray:
    scenario = victim.scenario
    model = QNN(replace(victim.design, shots=shots), victim.n_classes, scenario.model, scenario.data.axis, noise)
    answers = model.answers(victim.trained, victim.encode(victim.test), victim.keys("ways to run"))
    return np.mean(answers.argmax(axis=-1) == victim.labels[victim.test], axis=1)
