"""What a design costs on real hardware: error, time and money of its circuits, of answering rows and of training.

Parts at different providers run at the same time, and the slowest decides; parts at one provider run one after the other. Figures are
estimates from the profiles' averages: crosstalk, drift and the decay of idle qubits are left out, and so is the owner's own computing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq

from ..design import Design
from ..design.circuits import part_fragments
from ..design.gate_cuts import variant_counts
from ..errors import QumosError, unknown
from .counting import GateCounts, exact_counts, quick_counts
from .profile import DeviceProfile, Queue
from .transpile import transpile_part

_TAIL = 1e-12  # share of the slowest jobs that the mean waiting time leaves out


def circuit_error(counts: GateCounts, profile: DeviceProfile) -> float:
    """Probability that something goes wrong in one run: 1 − the product of the fidelities of all gates and measurements.

    The estimated success probability of Murali et al., "Noise-adaptive compiler mappings for noisy intermediate-scale quantum computers"
    (arXiv:1901.11054), with the average gate fidelities of the profile.
    """
    errors = profile.errors
    gates = (1 - errors.one_qubit) ** counts.n_one_qubit * (1 - errors.two_qubit) ** counts.n_two_qubit
    return 1 - gates * (1 - errors.readout) ** counts.n_qubits


def shot_seconds(counts: GateCounts, profile: DeviceProfile) -> float:
    """Seconds of one run: gates, readout and reset."""
    return counts.seconds + profile.times.readout + profile.times.reset


@dataclass(frozen=True)
class PartEstimate:
    """One part on the device of its provider.

    Attributes:
        provider: that runs it.
        profile: of that provider.
        counts: its native gates.
        angles: number of its trainable angles.
        variants: circuits that stand for it in one query: 1, or more if gate cuts touch it.
        error: see ``circuit_error``.
        shot_seconds: see ``shot_seconds``.
    """

    provider: str
    profile: DeviceProfile
    counts: GateCounts
    angles: int
    variants: int
    error: float
    shot_seconds: float


def estimate_parts(
    design: Design, profiles: Mapping[str, DeviceProfile], axis: str, *, quick: bool = False
) -> tuple[PartEstimate, ...]:
    """The parts of ``design``, each on the device of its provider; variants of a cut part are counted without their local gates.

    Args:
        design: the design.
        profiles: of the providers, by the names that the design uses.
        axis: rotation axis of the angle encoding.
        quick: count gates instead of transpiling, see ``qumos_env.hardware.counting``.

    Raises:
        QumosError: a provider without a profile, or a part that does not fit.
    """
    parts = []
    for part, fragment, variants in zip(design.parts, part_fragments(design, axis), variant_counts(design), strict=True):
        if part.provider not in profiles:
            raise unknown("provider without a profile", part.provider, profiles)
        profile = profiles[part.provider]
        circuit = fragment.circuit.freeze()
        counts = quick_counts(circuit, profile) if quick else exact_counts(transpile_part(circuit, profile), profile.times)
        error, seconds = circuit_error(counts, profile), shot_seconds(counts, profile)
        parts.append(PartEstimate(part.provider, profile, counts, len(fragment.weights), variants, error, seconds))
    return tuple(parts)


@dataclass(frozen=True)
class Share:
    """What one provider does in a job: circuits, device seconds, dollars, and its queue."""

    provider: str
    circuits: int
    seconds: float
    dollars: float
    queue: Queue


@dataclass(frozen=True)
class JobEstimate:
    """A job that runs at several providers at once.

    Attributes:
        shares: one per provider, in the order of their first part.
        waits: the running time of each provider as the owner sees it, in seconds: from its start until the job is done there.
    """

    shares: tuple[Share, ...]
    waits: tuple[float, ...]

    @property
    def circuits(self) -> int:
        """Circuits in all."""
        return sum(share.circuits for share in self.shares)

    @property
    def dollars(self) -> float:
        """Price in all."""
        return sum(share.dollars for share in self.shares)

    @property
    def run_seconds(self) -> float:
        """Time without any queue."""
        return max(self.waits)

    def done(self, seconds: float) -> float:
        """Probability that all providers are done ``seconds`` after the job was submitted; queues are independent."""
        return math.prod(share.queue.started(seconds - wait) for share, wait in zip(self.shares, self.waits, strict=True))

    def quantile(self, share: float) -> float:
        """Seconds, queues included, within which the job is done with probability ``share``.

        Raises:
            QumosError: ``share`` is not between 0 and 1.
        """
        least = max(part.queue.quantile(share) + wait for part, wait in zip(self.shares, self.waits, strict=True))
        # All n providers have started with the probability sought once each has with its n-th root, or before.
        joint = share ** (1 / len(self.shares))
        most = max(part.queue.quantile(joint) + wait for part, wait in zip(self.shares, self.waits, strict=True)) * (1 + 1e-9)
        if self.done(least) >= share:
            return least
        return float(brentq(lambda seconds: self.done(seconds) - share, least, most))

    @property
    def mean_seconds(self) -> float:
        """Mean time until the job is done, queues included."""
        base = self.run_seconds
        longest = max(part.queue.quantile(1 - _TAIL) for part in self.shares)
        if longest == 0:
            return base

        def late(logarithm: float) -> float:
            return (1 - self.done(base + math.exp(logarithm))) * math.exp(logarithm)

        # ∫ P(later than base + s) ds over s = exp(x): a queue's times span orders of magnitude.
        breaks = sorted(math.log(part.queue.median) for part in self.shares if part.queue.median)
        return base + float(quad(late, math.log(longest) - 60, math.log(longest), points=breaks, limit=500)[0])

    def sample(self, generator: np.random.Generator, size: int) -> np.ndarray:
        """``size`` independent times until the job is done, queues included, in seconds."""
        return np.max([part.queue.sample(generator, size) + wait for part, wait in zip(self.shares, self.waits, strict=True)], axis=0)


def inference_job(parts: Sequence[PartEstimate], rows: int, shots: int) -> JobEstimate:
    """Answering ``rows`` rows in one batch, with ``shots`` shots per circuit: one circuit per row, part and variant.

    Raises:
        QumosError: fewer than one row or shot.
    """
    _check(rows=rows, shots=shots)
    shares = _shares(parts, [rows * part.variants for part in parts], shots)
    return JobEstimate(shares, tuple(share.seconds for share in shares))


def training_job(parts: Sequence[PartEstimate], rows: int, steps: int, shots: int) -> JobEstimate:
    """``steps`` full-batch steps of gradient descent by the parameter-shift rule.

    A step runs every part of every row once as it is, for the loss and the gradient of the head, and twice per angle of that part. It
    waits for the slowest provider. Each provider queues once and then keeps its device for the job; training starts when all have it.

    Raises:
        QumosError: fewer than one row, step or shot.
    """
    _check(rows=rows, steps=steps, shots=shots)
    shares = _shares(parts, [steps * rows * part.variants * (1 + 2 * part.angles) for part in parts], shots)
    return JobEstimate(shares, (max(share.seconds for share in shares),) * len(shares))


def _check(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise QumosError(f"{name} is {count}, at least 1 is needed")


def _shares(parts: Sequence[PartEstimate], circuits: Sequence[int], shots: int) -> tuple[Share, ...]:
    shares = []
    for provider in dict.fromkeys(part.provider for part in parts):
        mine = [(part, count) for part, count in zip(parts, circuits, strict=True) if part.provider == provider]
        profile = mine[0][0].profile
        total = sum(count for _, count in mine)
        seconds = sum(count * shots * part.shot_seconds for part, count in mine)
        shares.append(Share(provider, total, seconds, profile.price.total(total, shots, seconds), profile.queue))
    return tuple(shares)
