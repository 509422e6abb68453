"""The circuits of a design as the noisy hardware of its providers runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cirq
import numpy as np

from ..design import Design
from ..design.circuits import Fragment, input_symbol, joint_fragments, weight_symbol
from ..simulation.channels import NoiseSpec, ReadoutError
from ..simulation.noise import NoisyEngine
from ..simulation.sampling import sampled_z


class NoisyStack:
    """As ``CircuitStack``, with the providers' noise behind every gate and in the readout; exact, by density matrices.

    A gate that is cut between two parts runs as one-qubit variants on either side, so it gets the noise of a one-qubit gate on each.

    Args:
        design: the design; gates that join parts are simulated uncut.
        axis: rotation axis of the encoding.
        noise: provider -> its noise; a provider that is not named has none.
    """

    def __init__(self, design: Design, axis: str, noise: Mapping[str, NoiseSpec]) -> None:
        self._n_qubits = design.n_qubits
        rates = [noise.get(design.assignment[part], NoiseSpec()) for part in design.partition]
        self._blocks = joint_fragments(design, axis)
        self._engines = [_engine(fragment, rates, design.partition) for fragment in self._blocks]

    def readout(self, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """⟨Z⟩ float ``[M, rows, n_qubits]`` for ``angles`` ``[M, n_trainable]`` and ``inputs`` ``[M, rows, n_qubits]``."""
        values = np.zeros(inputs.shape)
        for fragment, engine in zip(self._blocks, self._engines, strict=True):
            qubits, weights = list(fragment.qubits), list(fragment.weights)
            for model, (mine, rows) in enumerate(zip(angles, inputs, strict=True)):
                values[model][:, qubits] = engine.forward(mine[weights], rows[:, qubits])
        return values

    def sampled_readout(self, angles: np.ndarray, inputs: np.ndarray, shots: int, keys: Sequence[Sequence[int]]) -> np.ndarray:
        """The same estimated from ``shots`` runs of every fragment per row; ``keys`` seed the M samplings."""
        values = np.zeros(inputs.shape)
        for number, (fragment, engine) in enumerate(zip(self._blocks, self._engines, strict=True)):
            qubits, weights = list(fragment.qubits), list(fragment.weights)
            for model, (mine, rows) in enumerate(zip(angles, inputs, strict=True)):
                probabilities = engine.probabilities(mine[weights], rows[:, qubits])
                values[model][:, qubits] = sampled_z(probabilities, shots, np.random.default_rng([*keys[model], number]))
        return values


def _engine(fragment: Fragment, rates: Sequence[NoiseSpec], partition: Sequence[int]) -> NoisyEngine:
    line = [cirq.LineQubit(qubit) for qubit in fragment.qubits]
    readout: list[ReadoutError] = [rates[qubit].readout for qubit in fragment.qubits]
    return NoisyEngine.from_circuit(
        cirq.Circuit(_noisy(operation, rates, partition) for operation in fragment.circuit.all_operations()),
        line,
        [cirq.PauliString(cirq.Z(qubit)) for qubit in line],
        [input_symbol(qubit) for qubit in fragment.qubits],
        [weight_symbol(index) for index in fragment.weights],
        readout=readout,
    )


def _noisy(operation: cirq.Operation, rates: Sequence[NoiseSpec], partition: Sequence[int]) -> cirq.OP_TREE:
    qubits = [qubit.x for qubit in operation.qubits if isinstance(qubit, cirq.LineQubit)]
    if len({partition[qubit] for qubit in qubits}) == 1:
        return list(rates[qubits[0]].noisy(cirq.Circuit(operation)).all_operations())
    variants = [cirq.depolarize(rates[qubit].one_qubit)(cirq.LineQubit(qubit)) for qubit in qubits if rates[qubit].one_qubit]
    return [operation, *variants]
