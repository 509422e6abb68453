"""What a provider that deviates, or its co-tenant, does to the owner's accuracy.

The adversary sits at one provider and touches what that provider runs and returns, nothing else (see ``faults``). The owner does
not notice, and classifies what comes back with its unchanged head. Every measurement is the accuracy on the test rows beside that of
the honest service on the same rows; the worst case is chosen on the tuning rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...evaluation.service import Service
from ...model.noisy import NoisyStack
from ...simulation.channels import NoiseSpec
from ..results import AttackResult, Control, Curve, Measurement, Plot
from .faults import ExposedCircuits, Fault
from .noisy_circuits import NoisyCircuits


class Deviation:
    """The service of ``victim`` on some rows while one provider deviates.

    Args:
        victim: the service.
        rows: row numbers ``[K, rows]`` that are classified.
    """

    def __init__(self, victim: Service, rows: np.ndarray) -> None:
        self._victim = victim
        self._labels = victim.labels[rows]
        self._inputs = victim.encode(rows)
        self._circuits = ExposedCircuits(victim.design, victim.model.axis)
        self._angles = self._circuits.honest(victim.trained.angles)
        noise = victim.model.circuits.noise
        rates = [noise.get(provider, NoiseSpec()) for provider in self._circuits.providers]
        self._noisy = NoisyStack(self._circuits.fragments, rates, self._circuits.homes) if noise else None
        self._undisturbed = self._readout(self._angles)

    def right(self, provider: str = "", fault: Fault | None = None, strength: float = 0.0) -> np.ndarray:
        """Whether each row is classified rightly, bool ``[K, rows]``; without a ``fault`` by the honest service.

        The random choices of a fault are the same for all strengths, so more of it changes more of the same.
        """
        values = self._undisturbed
        if fault is not None:
            seat = self._circuits.seats[provider]
            generators = [np.random.default_rng(key) for key in self._victim.keys(f"fault: {fault.name}")]
            if fault.circuit is not None:
                pairs = zip(self._angles, generators, strict=True)
                values = self._readout(np.stack([fault.circuit(one, seat, strength, generator) for one, generator in pairs]))
            if fault.results is not None:
                values = values.copy()
                for one, generator in zip(values, generators, strict=True):
                    one[:, seat.qubits] = fault.results(one[:, seat.qubits], strength, generator)
        return self._judged(values)

    def on_hardware(self, factors: dict[str, float], noisy: NoisyCircuits) -> np.ndarray:
        """As ``right``, on hardware that is worse than promised by ``factors``; exact expectation values."""
        return self._judged(noisy.readout(self._angles, self._inputs, factors))

    @property
    def circuits(self) -> ExposedCircuits:
        """The design's."""
        return self._circuits

    def _readout(self, angles: np.ndarray) -> np.ndarray:
        shots = self._victim.design.shots
        stack = self._noisy or self._circuits.stack
        if shots is None:
            return stack.readout(angles, self._inputs)
        return stack.sampled_readout(angles, self._inputs, shots, self._victim.keys("answers under a fault"))

    def _judged(self, values: np.ndarray) -> np.ndarray:
        return self._victim.model.head.logits(self._victim.trained.head, values).argmax(axis=-1) == self._labels


Accuracies = tuple[float, np.ndarray]
"""Mean accuracy on the tuning rows, and accuracies ``[K]`` on the test rows."""


class Judged:
    """The service of ``victim`` on tuning rows, on which the worst case is chosen, and on test rows, on which it is measured.

    Attributes:
        service: on both at once.
    """

    def __init__(self, victim: Service) -> None:
        tuning = victim.together("tuning")
        self._tuning = tuning.shape[1]
        self.service = Deviation(victim, np.concatenate([tuning, victim.test], axis=1))

    def accuracies(self, right: np.ndarray) -> Accuracies:
        """Of answers of ``service`` that are ``right`` or not, bool ``[K, rows]``."""
        return float(right[:, : self._tuning].mean()), right[:, self._tuning :].mean(axis=1)


def worst_case(cases: Mapping[str, Accuracies], control: Control) -> Measurement:
    """That of the ``cases`` which costs most on the tuning rows."""
    worst = min(cases, key=lambda case: cases[case][0])
    return Measurement("worst", "accuracy", cases[worst][1], control, f"on the tuning rows: {worst}", headline=True)


def under_faults(victim: Service, faults: Sequence[Fault]) -> AttackResult:
    """Every fault at every provider: measured at its reference strength, curves over all strengths, and the worst of what was measured."""
    judged = Judged(victim)
    _, honest = judged.accuracies(judged.service.right())
    control = Control("honest service", honest)
    result = AttackResult()
    cases: dict[str, Accuracies] = {}
    for provider in judged.service.circuits.seats:
        for fault in faults:
            found = [judged.accuracies(judged.service.right(provider, fault, strength)) for strength in fault.strengths]
            case = f"{provider}, {fault.name} {fault.reference:g}"
            cases[case] = found[fault.strengths.index(fault.reference)]
            result.measurements.append(Measurement(case, "accuracy", cases[case][1], control, f"strength: {fault.meaning}"))
            plot = Plot(f"accuracy under {fault.name}", "strength", "accuracy")
            means = [float(tested.mean()) for _, tested in found]
            result.curves.append(Curve(plot, provider, np.array([0, *fault.strengths]), np.array([honest.mean(), *means])))
    result.measurements.append(worst_case(cases, control))
    return result
