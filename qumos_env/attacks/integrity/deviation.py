"""Integrity: what a provider that deviates, or its co-tenant, does to the owner's accuracy.

The adversary sits at one provider and touches what that provider runs and returns, nothing else (see ``faults``). The owner does
not notice, and classifies what comes back with its unchanged head. Every figure is the accuracy on the test rows beside that of
the honest service on the same rows; the worst case is chosen on the tuning rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...evaluation.service import Service
from ..registry import attack
from ..results import AttackResult, Curve, Figure, Goal
from .faults import CROSSTALK, TAMPERING, WORSE_HARDWARE, ExposedCircuits, Fault
from .noisy_circuits import MAX_NOISY_QUBITS, NoisyCircuits

_GOAL: Goal = "integrity"
_CONTROL = "honest service"
_USE = 0x1A7E


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
        self._undisturbed = self._readout(self._angles)

    def right(self, provider: str = "", fault: Fault | None = None, strength: float = 0.0) -> np.ndarray:
        """Whether each row is classified rightly, bool ``[K, rows]``; without a ``fault`` by the honest service.

        The random choices of a fault are the same for all strengths, so more of it changes more of the same.
        """
        values = self._undisturbed
        if fault is not None:
            seat = self._circuits.seats[provider]
            generators = [np.random.default_rng([*key, *fault.name.encode()]) for key in self._victim.keys(_USE)]
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
        shots, stack = self._victim.design.shots, self._circuits.stack
        if shots is None:
            return stack.readout(angles, self._inputs)
        return stack.sampled_readout(angles, self._inputs, shots, self._victim.keys(_USE))

    def _judged(self, values: np.ndarray) -> np.ndarray:
        return self._victim.model.head.logits(self._victim.trained.head, values).argmax(axis=-1) == self._labels


class _Split:
    """Tuning rows, then test rows, classified at once."""

    def __init__(self, victim: Service) -> None:
        tuning = victim.together("tuning")
        self._tuning = tuning.shape[1]
        self.service = Deviation(victim, np.concatenate([tuning, victim.test], axis=1))

    def accuracies(self, right: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean accuracy on the tuning rows, and accuracies ``[K]`` on the test rows."""
        return float(right[:, : self._tuning].mean()), right[:, self._tuning :].mean(axis=1)


def _figure(name: str, attack_name: str, values: np.ndarray, honest: np.ndarray, note: str = "") -> Figure:
    return Figure(_GOAL, attack_name, f"{name}: accuracy", values, honest, _CONTROL, note=note)


def _measured(victim: Service, attack_name: str, faults: Sequence[Fault]) -> AttackResult:
    """Every fault at every provider: figures at its reference strength, curves over all, and the worst of the figures."""
    split = _Split(victim)
    _, honest = split.accuracies(split.service.right())
    figures, curves = [], []
    worst: tuple[float, str, np.ndarray] | None = None
    for provider in split.service.circuits.seats:
        for fault in faults:
            found = [split.accuracies(split.service.right(provider, fault, strength)) for strength in fault.strengths]
            tuned, tested = found[fault.strengths.index(fault.reference)]
            name = f"{provider}, {fault.name} {fault.reference:g}"
            figures.append(_figure(name, attack_name, tested, honest, f"strength: {fault.meaning}"))
            if worst is None or tuned < worst[0]:
                worst = tuned, name, tested
            means = [float(accuracies.mean()) for _, accuracies in found]
            curves.append(
                Curve(f"accuracy under {fault.name}", provider, np.array([0, *fault.strengths]), np.array([honest.mean(), *means]))
            )
    assert worst is not None
    figures.append(_figure("worst", attack_name, worst[2], honest, f"on the tuning rows: {worst[1]}"))
    return AttackResult(figures, curves)


@attack("tampering", "integrity", "runs one provider, or has broken into it: changes its gates and angles, or the results that it returns")
def tampering(victim: Service) -> AttackResult:
    """Accuracy while one provider tampers with its circuit, its parameters or its results."""
    return _measured(victim, "tampering", TAMPERING)


@attack(
    "crosstalk-faults", "integrity", "is a co-tenant of one provider: drives qubits beside the victim's outer ones while its circuit runs"
)
def crosstalk_faults(victim: Service) -> AttackResult:
    """Accuracy while a co-tenant injects coherent errors.

    ZZ coupling to a neighbour in a known state turns an outer qubit about Z, a drive that leaks turns it about X, by the same
    unknown angle behind every moment. That co-tenants can inject faults in this way: Ash-Saki, Alam, Ghosh, "Analysis of crosstalk
    in NISQ devices and security implications in multi-programming regime" (ISLPED 2020).
    """
    return _measured(victim, "crosstalk-faults", (CROSSTALK,))


@attack("worse-hardware", "integrity", "runs one provider, on hardware whose error rates are a multiple of the promised ones")
def worse_hardware(victim: Service) -> AttackResult:
    """Accuracy on hardware that is worse than promised, beside that on hardware as promised; exact expectation values."""
    split = _Split(victim)
    noisy = NoisyCircuits(split.service.circuits)
    if not noisy.simulable:
        names = [f"{provider}, rates times {factor:g}" for provider, factor in _moves(victim)]
        return AttackResult([_unknown(victim, name) for name in (*names, "worst")])
    _, promised = split.accuracies(split.service.on_hardware({}, noisy))
    figures, found = [], {}
    worst: tuple[float, str, np.ndarray] | None = None
    for provider, factor in _moves(victim):
        tuned, tested = split.accuracies(split.service.on_hardware({provider: factor}, noisy))
        name = f"{provider}, rates times {factor:g}"
        figures.append(_hardware_figure(name, tested, promised))
        found[provider, factor] = tested
        if worst is None or tuned < worst[0]:
            worst = tuned, name, tested
    assert worst is not None
    figures.append(_hardware_figure("worst", worst[2], promised, f"on the tuning rows: {worst[1]}"))
    curves = []
    for provider in split.service.circuits.seats:
        means = [float(promised.mean()), *(float(found[provider, factor].mean()) for factor in WORSE_HARDWARE.strengths)]
        curves.append(Curve("accuracy on worse hardware", provider, np.array([1, *WORSE_HARDWARE.strengths]), np.array(means)))
    return AttackResult(figures, curves)


def _moves(victim: Service) -> list[tuple[str, float]]:
    return [(provider, factor) for provider in dict.fromkeys(victim.design.assignment) for factor in WORSE_HARDWARE.strengths]


def _hardware_figure(name: str, values: np.ndarray, promised: np.ndarray, note: str = "") -> Figure:
    return Figure(_GOAL, "worse-hardware", f"{name}: accuracy", values, promised, "hardware as promised", note=note)


def _unknown(victim: Service, name: str) -> Figure:
    nothing = np.full(len(victim.rows), np.nan)
    return _hardware_figure(name, nothing, nothing, f"n/a: a fragment of more than {MAX_NOISY_QUBITS} qubits is too wide for exact noise")
