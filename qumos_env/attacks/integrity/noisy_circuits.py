"""Hardware of promised and of worse quality: the exposed circuits under depolarising noise and readout errors.

A provider promises rates; its hardware is described by the factor on all of them. A gate that is cut between two parts is run
as one-qubit variants on either side, so it gets the noise of a one-qubit gate on each.
"""

from __future__ import annotations

from collections.abc import Mapping

import cirq
import numpy as np

from ...design.circuits import input_symbol, weight_symbol
from ...simulation.channels import NoiseSpec, ReadoutError
from ...simulation.noise import NoisyEngine
from .faults import ExposedCircuits

# Of the order that superconducting providers publish.
PROMISED = NoiseSpec(one_qubit=1e-3, two_qubit=1e-2, readout=ReadoutError(1e-2, 1e-2))
# The state of n noisy qubits is one of 2n: beyond this width an audit would take minutes.
MAX_NOISY_QUBITS = 6
TOO_WIDE = f"n/a: a fragment of more than {MAX_NOISY_QUBITS} qubits is too wide for exact noise"


def scaled_noise(noise: NoiseSpec, factor: float) -> NoiseSpec:
    """``noise`` with the depolarising and readout rates times ``factor``, at most those of complete depolarisation."""
    return NoiseSpec(
        min(factor * noise.one_qubit, 3 / 4),
        min(factor * noise.two_qubit, 15 / 16),
        readout=ReadoutError(min(factor * noise.readout.zero_as_one, 1 / 2), min(factor * noise.readout.one_as_zero, 1 / 2)),
    )


class NoisyCircuits:
    """Exposed circuits on noisy hardware; engines are compiled when first needed.

    Args:
        circuits: of the design.
        promised: rates of every provider at factor 1.
    """

    def __init__(self, circuits: ExposedCircuits, promised: NoiseSpec = PROMISED) -> None:
        self.circuits = circuits
        self.promised = promised
        self._engines: dict[tuple[int, tuple[float, ...]], NoisyEngine] = {}

    @property
    def simulable(self) -> bool:
        """Whether every fragment is narrow enough."""
        return max(len(fragment.qubits) for fragment in self.circuits.fragments) <= MAX_NOISY_QUBITS

    def readout(self, angles: np.ndarray, inputs: np.ndarray, factors: Mapping[str, float]) -> np.ndarray:
        """⟨Z⟩ ``[M, rows, n_qubits]`` for exposed ``angles`` ``[M, all]`` and ``inputs`` ``[M, rows, n_qubits]``.

        ``factors`` say how much worse than promised the hardware of each provider is; 1 where nothing is said.
        """
        values = np.zeros(inputs.shape)
        for number, fragment in enumerate(self.circuits.fragments):
            engine = self._engine(number, factors)
            for model, (mine, rows) in enumerate(zip(angles, inputs, strict=True)):
                values[model][:, list(fragment.qubits)] = engine.forward(mine[list(fragment.weights)], rows[:, list(fragment.qubits)])
        return values

    def outcomes(self, number: int, angles: np.ndarray, inputs: np.ndarray, factors: Mapping[str, float]) -> np.ndarray:
        """Outcome probabilities ``[rows, 2**qubits]`` of fragment ``number`` of one model.

        ``angles`` ``[all]`` are exposed ones, ``inputs`` ``[rows, n_qubits]``; ``factors`` as in ``readout``.
        """
        fragment = self.circuits.fragments[number]
        return self._engine(number, factors).probabilities(angles[list(fragment.weights)], inputs[:, list(fragment.qubits)])

    def _engine(self, number: int, factors: Mapping[str, float]) -> NoisyEngine:
        fragment = self.circuits.fragments[number]
        of_qubit = [factors.get(self.circuits.provider(qubit), 1.0) for qubit in fragment.qubits]
        key = (number, tuple(of_qubit))
        if key not in self._engines:
            rates = {qubit: scaled_noise(self.promised, factor) for qubit, factor in zip(fragment.qubits, of_qubit, strict=True)}
            line = [cirq.LineQubit(qubit) for qubit in fragment.qubits]
            self._engines[key] = NoisyEngine.from_circuit(
                self._noisy(number, rates),
                line,
                [cirq.PauliString(cirq.Z(qubit)) for qubit in line],
                [input_symbol(qubit) for qubit in fragment.qubits],
                [weight_symbol(index) for index in fragment.weights],
                readout=[rates[qubit].readout for qubit in fragment.qubits],
            )
        return self._engines[key]

    def _noisy(self, number: int, rates: Mapping[int, NoiseSpec]) -> cirq.Circuit:
        circuit = cirq.Circuit()
        for moment in self.circuits.moments[number]:
            for operation in moment.design:
                qubits = [qubit.x for qubit in operation.qubits if isinstance(qubit, cirq.LineQubit)]
                if len({self.circuits.part(qubit) for qubit in qubits}) == 1:
                    circuit += rates[qubits[0]].noisy(cirq.Circuit(operation))
                else:
                    circuit.append([operation, *(cirq.depolarize(rates[qubit].one_qubit)(cirq.LineQubit(qubit)) for qubit in qubits)])
            circuit.append(moment.crosstalk)
        return circuit
