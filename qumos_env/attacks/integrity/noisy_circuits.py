"""Hardware of promised and of worse quality: the exposed circuits under gate noise and readout errors.

A provider promises rates; its hardware is described by the factor on all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...model.noisy import NoisyStack
from ...simulation.channels import NoiseSpec, ReadoutError
from .faults import ExposedCircuits

# Of the order that superconducting providers publish.
PROMISED = NoiseSpec(one_qubit=1e-3, two_qubit=1e-2, readout=ReadoutError(1e-2, 1e-2))
# The state of n noisy qubits is one of 2n: beyond this width an audit would take minutes.
MAX_NOISY_QUBITS = 6
TOO_WIDE = f"n/a: a fragment of more than {MAX_NOISY_QUBITS} qubits is too wide for exact noise"


def scaled_noise(noise: NoiseSpec, factor: float) -> NoiseSpec:
    """``noise`` with all its rates times ``factor``, at most those of complete depolarisation, decay or confusion."""
    return NoiseSpec(
        min(factor * noise.one_qubit, 3 / 4),
        min(factor * noise.two_qubit, 15 / 16),
        amplitude_damping=min(factor * noise.amplitude_damping, 1.0),
        phase_damping=min(factor * noise.phase_damping, 1.0),
        readout=ReadoutError(min(factor * noise.readout.zero_as_one, 1 / 2), min(factor * noise.readout.one_as_zero, 1 / 2)),
    )


class NoisyCircuits:
    """Exposed circuits on noisy hardware; compiled when first needed.

    Args:
        circuits: of the design.
        promised: rates of every provider at factor 1.
    """

    def __init__(self, circuits: ExposedCircuits, promised: NoiseSpec = PROMISED) -> None:
        self.circuits = circuits
        self.promised = promised
        self._stacks: dict[tuple[float, ...], NoisyStack] = {}

    @property
    def simulable(self) -> bool:
        """Whether every fragment is narrow enough."""
        return max(len(fragment.qubits) for fragment in self.circuits.fragments) <= MAX_NOISY_QUBITS

    def readout(self, angles: np.ndarray, inputs: np.ndarray, factors: Mapping[str, float]) -> np.ndarray:
        """⟨Z⟩ ``[M, rows, n_qubits]`` for exposed ``angles`` ``[M, all]`` and ``inputs`` ``[M, rows, n_qubits]``.

        ``factors`` say how much worse than promised the hardware of each provider is; 1 where nothing is said.
        """
        return self._stack(factors).readout(angles, inputs)

    def outcomes(self, number: int, angles: np.ndarray, inputs: np.ndarray, factors: Mapping[str, float]) -> np.ndarray:
        """Outcome probabilities ``[rows, 2**qubits]`` of fragment ``number`` of one model.

        ``angles`` ``[all]`` are exposed ones, ``inputs`` ``[rows, n_qubits]``; ``factors`` as in ``readout``.
        """
        return self._stack(factors).outcomes(number, angles, inputs)

    def _stack(self, factors: Mapping[str, float]) -> NoisyStack:
        of_qubit = tuple(factors.get(provider, 1.0) for provider in self.circuits.providers)
        if of_qubit not in self._stacks:
            rates = [scaled_noise(self.promised, factor) for factor in of_qubit]
            self._stacks[of_qubit] = NoisyStack(self.circuits.fragments, rates, self.circuits.homes)
        return self._stacks[of_qubit]
