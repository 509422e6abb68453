"""Circuits as the noisy hardware of their providers runs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cirq
import numpy as np

from ..design.circuits import Fragment, input_symbol, weight_symbol
from ..simulation.channels import NoiseSpec
from ..simulation.noise import NoisyEngine
from ..simulation.sampling import sampled_z


class NoisyStack:
    """As ``CircuitStack``, with the providers' noise behind every gate and in the readout; exact, by density matrices.

    Args:
        fragments: on distinct qubits; gates that join parts are simulated uncut.
        rates: of every qubit of the register, the noise of the provider that runs it.
        homes: the part of every qubit.
    """

    def __init__(self, fragments: Sequence[Fragment], rates: Sequence[NoiseSpec], homes: Sequence[int]) -> None:
        self.fragments = tuple(fragments)
        self._engines = [_engine(fragment, rates, homes) for fragment in fragments]

    def readout(self, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """⟨Z⟩ float ``[M, rows, n_qubits]`` for ``angles`` ``[M, all]`` and ``inputs`` ``[M, rows, n_qubits]``."""
        values = np.zeros(inputs.shape)
        for fragment, engine in zip(self.fragments, self._engines, strict=True):
            qubits, weights = list(fragment.qubits), list(fragment.weights)
            for model, (mine, rows) in enumerate(zip(angles, inputs, strict=True)):
                values[model][:, qubits] = engine.forward(mine[weights], rows[:, qubits])
        return values

    def sampled_readout(self, angles: np.ndarray, inputs: np.ndarray, shots: int, keys: Sequence[Sequence[int]]) -> np.ndarray:
        """The same estimated from ``shots`` runs of every fragment per row; ``keys`` seed the M samplings."""
        values = np.zeros(inputs.shape)
        for number, fragment in enumerate(self.fragments):
            for model, (mine, rows) in enumerate(zip(angles, inputs, strict=True)):
                probabilities = self.outcomes(number, mine, rows)
                values[model][:, list(fragment.qubits)] = sampled_z(probabilities, shots, np.random.default_rng([*keys[model], number]))
        return values

    def outcomes(self, number: int, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """Outcome probabilities ``[rows, 2**qubits]`` of fragment ``number`` of one model.

        ``angles`` are ``[all]``, ``inputs`` ``[rows, n_qubits]``.
        """
        fragment = self.fragments[number]
        return self._engines[number].probabilities(angles[list(fragment.weights)], inputs[:, list(fragment.qubits)])


def noisy_circuit(circuit: cirq.AbstractCircuit, rates: Sequence[NoiseSpec], homes: Sequence[int]) -> cirq.Circuit:
    """``circuit`` on ``cirq.LineQubit``s with noise behind every operation that is not tagged ``cirq.VirtualTag()``.

    A gate that is cut between two parts runs as one-qubit variants on either side, so it gets the noise of a one-qubit gate on each.

    Args:
        circuit: of a fragment.
        rates, homes: see ``NoisyStack``.
    """

    def behind(operation: cirq.Operation) -> Iterator[cirq.Operation]:
        qubits = [qubit for qubit in operation.qubits if isinstance(qubit, cirq.LineQubit)]
        if cirq.VirtualTag() in operation.tags:
            return
        if len({homes[qubit.x] for qubit in qubits}) == 1:
            yield from rates[qubits[0].x].behind(operation)
        else:
            for qubit in qubits:
                yield from rates[qubit.x].behind(cirq.I(qubit))

    return cirq.Circuit([operation, *behind(operation)] for operation in circuit.all_operations())


def _engine(fragment: Fragment, rates: Sequence[NoiseSpec], homes: Sequence[int]) -> NoisyEngine:
    line = [cirq.LineQubit(qubit) for qubit in fragment.qubits]
    return NoisyEngine.from_circuit(
        noisy_circuit(fragment.circuit, rates, homes),
        line,
        [cirq.PauliString(cirq.Z(qubit)) for qubit in line],
        [input_symbol(qubit) for qubit in fragment.qubits],
        [weight_symbol(index) for index in fragment.weights],
        readout=[rates[qubit].readout for qubit in fragment.qubits],
    )
