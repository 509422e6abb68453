"""Inspection of a provider by canaries: inputs whose honest answers the owner knows.

The owner knows its own model. Among its queries it hides held-out inputs whose ⟨Z⟩ it has simulated, and compares what the
provider returns: Σ (z − μ)² / ((1 − μ²)/shots + δ²) over canaries and the provider's qubits. A provider may keep its promise with
hardware that is better than promised, so μ is the middle between noise-free and promised hardware, and the allowance δ half
of their distance. The statistic is not trusted to be χ²: the alarm threshold is an order statistic of simulated honest sessions, which
bounds the rate of false alarms whatever the distribution (conformal prediction: Vovk, Gammerman, Shafer, 2005); other honest
sessions measure that rate.

The provider cannot tell a canary from a query, since both are encoded rows of one distribution. Its faults are those of ``faults``, and
worse hardware; every session draws a fault anew, on honest hardware of random quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...seeds import label
from ...simulation.sampling import sampled_z
from .faults import ANGLE_ERRORS, Fault, angle_errors
from .noisy_circuits import NoisyCircuits

HONEST_FACTORS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Protocol:
    """How an owner inspects a provider.

    Attributes:
        canaries: inputs per session.
        shots: per canary, unless the design says how many.
        false_alarms: the rate that the threshold is set for.
        candidates: held-out rows that the canaries are chosen from.
        calibration: simulated honest sessions n per model that set the threshold; its own rate of false alarms α scatters about the
            one it is set for with a standard deviation of sqrt(α(1 − α)/n).
        honest: other honest sessions per model, which measure the rate of false alarms.
        faulty: sessions per model and strength of a fault.
    """

    canaries: int = 16
    shots: int = 1000
    false_alarms: float = 0.05
    candidates: int = 48
    calibration: int = 400
    honest: int = 200
    faulty: int = 5

    def threshold(self, statistics: np.ndarray) -> np.ndarray:
        """The smallest threshold that one more honest statistic exceeds with a probability of at most ``false_alarms``.

        ``statistics`` of honest sessions ``[..., sessions]``; with too few of them no threshold is high enough.
        """
        count = statistics.shape[-1]
        rank = int(np.ceil((count + 1) * (1 - self.false_alarms)))
        if rank > count:
            return np.full(statistics.shape[:-1], np.inf)
        return np.sort(statistics, axis=-1)[..., rank - 1]


class Inspector:
    """Inspects one provider of one trained model.

    Args:
        noisy: the exposed circuits on hardware.
        provider: the one inspected.
        angles: of the model, exposed ``[all]``.
        candidates: encoded rows that canaries may be, ``[rows, n_qubits]``.
        protocol: how.
        key: seeds everything.
        sensitive: take the candidates that show errors of angles best; otherwise the first ones.
    """

    def __init__(
        self,
        noisy: NoisyCircuits,
        provider: str,
        angles: np.ndarray,
        candidates: np.ndarray,
        protocol: Protocol,
        key: Sequence[int],
        sensitive: bool = True,
    ) -> None:
        self._noisy, self._provider, self._angles, self._protocol, self._key = noisy, provider, angles, protocol, tuple(key)
        self._seat = noisy.circuits.seats[provider]
        own = set(self._seat.qubits.tolist())
        fragments = enumerate(noisy.circuits.fragments)
        # Of every fragment that the provider has a hand in: its number, and the columns of the provider's qubits.
        self._blocks = [(number, [q in own for q in fragment.qubits]) for number, fragment in fragments if own & set(fragment.qubits)]
        self._order = [q for number, _ in self._blocks for q in noisy.circuits.fragments[number].qubits if q in own]
        self._inputs = candidates
        best, worst = (self._exact(self._outcomes(angles, factor)) for factor in (HONEST_FACTORS[0], HONEST_FACTORS[-1]))
        self._centre = (best + worst) / 2
        shot_noise = np.maximum(1 - self._centre**2, 1 / protocol.shots) / protocol.shots
        self._variance = shot_noise + ((best - worst) / 2) ** 2
        order = np.argsort(-self._sensitivity(best), kind="stable") if sensitive else np.arange(len(candidates))
        chosen = order[: protocol.canaries]
        self._inputs, self._centre, self._variance = candidates[chosen], self._centre[chosen], self._variance[chosen]
        self._honest = {factor: self._outcomes(angles, factor) for factor in HONEST_FACTORS}
        self._threshold = float(protocol.threshold(self._honest_sessions(protocol.calibration, "calibration")))

    @property
    def canaries(self) -> int:
        """How many there are: fewer than wanted where there are not enough candidates."""
        return len(self._inputs)

    def honest_scores(self) -> np.ndarray:
        """Scores ``[sessions]`` of honest sessions that did not set the threshold: above 1 is an alarm."""
        return self._honest_sessions(self._protocol.honest, "honest sessions") / self._threshold

    def _honest_sessions(self, sessions: int, use: str) -> np.ndarray:
        """Statistics ``[sessions]``, each on honest hardware of random quality."""
        generator = np.random.default_rng([*self._key, label(use)])
        counts = np.bincount(generator.integers(len(HONEST_FACTORS), size=sessions), minlength=len(HONEST_FACTORS))
        pairs = zip(HONEST_FACTORS, counts, strict=True)
        return np.concatenate([self._statistics(self._sampled(self._honest[factor], int(count), generator)) for factor, count in pairs])

    def faulty_scores(self, fault: Fault, strength: float) -> np.ndarray:
        """Scores ``[sessions]`` while the provider commits ``fault``; every session draws it anew."""
        generator = np.random.default_rng([*self._key, label(f"fault: {fault.name}")])
        found = []
        for _ in range(self._protocol.faulty):
            factor = HONEST_FACTORS[generator.integers(len(HONEST_FACTORS))]
            if fault.hardware is not None:
                factor = fault.hardware(factor, strength)
            if fault.circuit is not None:
                outcomes = self._outcomes(fault.circuit(self._angles, self._seat, strength, generator), factor)
            else:
                if factor not in self._honest:
                    self._honest[factor] = self._outcomes(self._angles, factor)
                outcomes = self._honest[factor]
            values = self._sampled(outcomes, 1, generator)[0]
            if fault.results is not None:
                values = fault.results(values, strength, generator)
            found.append(self._statistics(values))
        return np.array(found) / self._threshold

    def _outcomes(self, angles: np.ndarray, factor: float) -> list[np.ndarray]:
        """Per fragment, outcome probabilities ``[rows, 2**qubits]`` of the canaries."""
        return [self._noisy.outcomes(number, angles, self._inputs, {self._provider: factor}) for number, _ in self._blocks]

    def _exact(self, outcomes: list[np.ndarray]) -> np.ndarray:
        """⟨Z⟩ ``[rows, the provider's qubits]`` of outcome probabilities."""
        return self._columns([probabilities @ _signs(probabilities.shape[1]) for probabilities in outcomes])

    def _sampled(self, outcomes: list[np.ndarray], sessions: int, generator: np.random.Generator) -> np.ndarray:
        """⟨Z⟩ ``[sessions, rows, the provider's qubits]`` from shots."""
        shots, rows = self._protocol.shots, len(self._inputs)
        found = [sampled_z(np.tile(probabilities, (sessions, 1)), shots, generator) for probabilities in outcomes]
        return self._columns(found).reshape(sessions, rows, len(self._order))

    def _columns(self, values: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([one[:, own] for one, (_, own) in zip(values, self._blocks, strict=True)], axis=1)

    def _statistics(self, values: np.ndarray) -> np.ndarray:
        """Of sessions ``[..., rows, qubits]``."""
        return np.sum((values - self._centre) ** 2 / self._variance, axis=(-2, -1))

    def _sensitivity(self, undisturbed: np.ndarray, draws: int = 4) -> np.ndarray:
        """Per candidate, how far small errors of the angles move the statistic."""
        generator = np.random.default_rng([*self._key, label("choice of canaries")])
        weakest = ANGLE_ERRORS.strengths[0]
        angles = np.stack([angle_errors(self._angles, self._seat, weakest, generator) for _ in range(draws)])
        values = self._noisy.circuits.stack.readout(angles, np.broadcast_to(self._inputs, (draws, *self._inputs.shape)))
        return np.mean(np.sum((values[:, :, self._order] - undisturbed) ** 2 / self._variance, axis=2), axis=0)


def _signs(size: int) -> np.ndarray:
    """Z of every qubit in every outcome, ``[size, qubits]``."""
    n_qubits = size.bit_length() - 1
    return 1 - 2 * ((np.arange(size)[:, None] >> np.arange(n_qubits - 1, -1, -1)) & 1)
