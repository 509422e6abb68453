"""Hidden canaries: rows whose honest answers the owner knows, in calls that a provider cannot tell from others.

The owner holds all circuits. Of a batch now and then it simulates some of the very rows that customers sent, and compares what came
back: a canary that is a query has nothing that gives it away. The statistic is that of the audit's canary detector, Σ (z − μ)²/((1 − μ²)/
shots + δ²); with exact values any deviation beyond 5 δ is an alarm, with shots the statistic stands beside those of honest providers
simulated on the same rows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from ..owner import Seat
from .served import Served

_SESSIONS = 400
_LIMIT = 5.0


@dataclass(frozen=True)
class Checks:
    """How providers are checked.

    Attributes:
        rate: share of the batches that are checked; 0 checks none.
        rows: of a batch that are simulated.
        allowance: δ, what an honest provider's values may be off, besides shots: raise it for noisy hardware.
        alarms, window: so many suspicious checks among the last ``window`` catch a provider that answers from shots.
    """

    rate: float = 0.05
    rows: int = 2
    allowance: float = 1e-4
    alarms: int = 2
    window: int = 4


@dataclass
class Inspector:
    """Checks one provider.

    Args:
        checks: how.
        generator: chooses what is checked.
    """

    checks: Checks
    generator: np.random.Generator
    _recent: deque[bool] = field(init=False)

    def __post_init__(self) -> None:
        self._recent = deque(maxlen=self.checks.window)

    def chosen(self, rows: int) -> np.ndarray | None:
        """Numbers of the rows of a batch to check, or ``None`` for none."""
        if self.generator.random() >= self.checks.rate:
            return None
        return self.generator.permutation(rows)[: self.checks.rows]

    def suspicious(self, served: Served, seat: Seat, inputs: np.ndarray, results: np.ndarray, shots: int | None) -> bool:
        """Whether ``results`` of ``inputs`` are other than an honest provider's.

        Args:
            served: the version.
            seat: the part.
            inputs: encoded rows ``[rows, n_qubits]`` of the register.
            results: ``[rows, variants, 1 + qubits]``.
            shots: that they are from.
        """
        honest = served.simulated(seat.index, inputs)
        if shots is None:
            return bool(np.abs(results - honest).max() > _LIMIT * self.checks.allowance)
        variance = np.maximum(1 - honest**2, 1 / shots) / shots + self.checks.allowance**2
        repeated = np.repeat(inputs, _SESSIONS, axis=0)
        drawn = served.simulated(seat.index, repeated, shots, self.generator).reshape(len(inputs), _SESSIONS, *honest.shape[1:])
        sessions = ((drawn - honest[:, None]) ** 2 / variance[:, None]).sum(axis=(0, 2, 3))
        found = ((results - honest) ** 2 / variance).sum()
        return bool(found > sessions.max())

    def alarm(self, suspicious: bool, shots: int | None) -> bool:
        """Takes the outcome of a check in; whether it catches the provider."""
        self._recent.append(suspicious)
        return suspicious if shots is None else sum(self._recent) >= self.checks.alarms
