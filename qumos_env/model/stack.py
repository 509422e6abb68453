"""The circuits of a design side by side, ready to run: ⟨Z⟩ of the register and its gradients, for many models at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cirq
import numpy as np

from ..design.circuits import Fragment, input_symbol, weight_symbol
from ..simulation.adjoint import CircuitEngine, EncodedBatch, Observable, Tape
from ..simulation.dense import DenseBatch, DenseEngine, DenseTape
from ..simulation.program import compile_circuit
from ..simulation.sampling import sampled_z

# Up to this width of a fragment all models share dense linear algebra, above each runs on qsim. Measured, see docs/engine.md.
DENSE_MAX_QUBITS = 5


class FragmentEngine:
    """A fragment ready to run: ⟨Z⟩ of its qubits, for M models at once.

    All models of a narrow fragment share dense linear algebra; each model of a wide one runs on qsim.
    """

    def __init__(self, fragment: Fragment) -> None:
        line = [cirq.LineQubit(qubit) for qubit in fragment.qubits]
        self._program = compile_circuit(
            fragment.circuit, line, [input_symbol(q) for q in fragment.qubits], [weight_symbol(index) for index in fragment.weights]
        )
        self.qubits = list(fragment.qubits)
        self.weights = list(fragment.weights)
        self._line = line

    @cached_property
    def _qsim(self) -> CircuitEngine:
        return CircuitEngine(self._program, [Observable.from_cirq(cirq.PauliString(cirq.Z(qubit)), self._line) for qubit in self._line])

    @cached_property
    def _dense(self) -> DenseEngine:
        return DenseEngine(self._program)

    def encode(self, inputs: np.ndarray) -> DenseBatch | list[EncodedBatch]:
        """``inputs`` are the angles of the whole register, float ``[M, rows, n_qubits]``."""
        mine = inputs[:, :, self.qubits]
        if len(self.qubits) <= DENSE_MAX_QUBITS:
            return self._dense.encode(mine)
        return [self._qsim.encode(one) for one in mine]

    def forward(self, angles: np.ndarray, batch: DenseBatch | list[EncodedBatch]) -> tuple[np.ndarray, DenseTape | list[Tape]]:
        """⟨Z⟩ ``[M, rows, qubits of the fragment]``; ``angles`` ``[M, n_trainable]`` are those of the whole design."""
        mine = angles[:, self.weights]
        if isinstance(batch, DenseBatch):
            return self._dense.forward(mine, batch)
        results = [self._qsim.forward(one, encoded) for one, encoded in zip(mine, batch, strict=True)]
        return np.stack([values for values, _ in results]), [tape for _, tape in results]

    def outcome_probabilities(self, angles: np.ndarray, batch: DenseBatch | list[EncodedBatch]) -> list[np.ndarray]:
        """Per model, probabilities ``[rows, 2**qubits]`` of the outcomes of measuring every qubit of the fragment."""
        _, tape = self.forward(angles, batch)
        if isinstance(tape, DenseTape):
            final = list(tape.final)
        else:
            final = [one.states for one in tape]
        return [(states.real**2 + states.imag**2).T for states in final]

    def backward(self, tape: DenseTape | list[Tape], cotangents: np.ndarray) -> np.ndarray:
        """∂L/∂(angles of this fragment) ``[M, angles]`` for ∂L/∂⟨Z⟩ ``[M, rows, qubits of the fragment]``."""
        if isinstance(tape, DenseTape):
            return self._dense.backward(tape, cotangents)
        return np.stack([self._qsim.backward(one, slope)[0] for one, slope in zip(tape, cotangents, strict=True)])


class CircuitStack:
    """Fragments side by side, as one map from register angles to ⟨Z⟩ of the register, for M models at once.

    Args:
        fragments: on distinct qubits; qubits in no fragment read 0.
        n_qubits: width of the register.
    """

    def __init__(self, fragments: Sequence[Fragment], n_qubits: int) -> None:
        self.n_qubits = n_qubits
        self.engines = tuple(FragmentEngine(fragment) for fragment in fragments)

    def encode(self, inputs: np.ndarray) -> StackBatch:
        """``inputs`` ``[M, rows, n_qubits]`` encoded for every fragment."""
        return StackBatch(inputs.shape[:2], [engine.encode(inputs) for engine in self.engines])

    def forward(self, angles: np.ndarray, batch: StackBatch) -> tuple[np.ndarray, list[DenseTape | list[Tape]]]:
        """⟨Z⟩ float ``[M, rows, n_qubits]`` for ``angles`` ``[M, n_trainable]``, and the tapes."""
        values = np.zeros((*batch.shape, self.n_qubits))
        tapes = []
        for engine, encoded in zip(self.engines, batch.fragments, strict=True):
            part, tape = engine.forward(angles, encoded)
            values[:, :, engine.qubits] = part
            tapes.append(tape)
        return values, tapes

    def backward(self, tapes: Sequence[DenseTape | list[Tape]], cotangents: np.ndarray, n_angles: int) -> np.ndarray:
        """∂L/∂angles ``[M, n_angles]``."""
        gradient = np.zeros((len(cotangents), n_angles))
        for engine, tape in zip(self.engines, tapes, strict=True):
            if engine.weights:
                gradient[:, engine.weights] = engine.backward(tape, cotangents[:, :, engine.qubits])
        return gradient

    def readout(self, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """⟨Z⟩ float ``[M, rows, n_qubits]``."""
        return self.forward(angles, self.encode(inputs))[0]

    def sampled_readout(self, angles: np.ndarray, inputs: np.ndarray, shots: int, keys: Sequence[Sequence[int]]) -> np.ndarray:
        """⟨Z⟩ float ``[M, rows, n_qubits]`` estimated from ``shots`` runs of every fragment per row; ``keys`` seed the M samplings."""
        batch = self.encode(inputs)
        values = np.zeros((*batch.shape, self.n_qubits))
        for number, (engine, encoded) in enumerate(zip(self.engines, batch.fragments, strict=True)):
            for model, probabilities in enumerate(engine.outcome_probabilities(angles, encoded)):
                values[model][:, engine.qubits] = sampled_z(probabilities, shots, np.random.default_rng([*keys[model], number]))
        return values


@dataclass(frozen=True)
class StackBatch:
    """Encoded inputs of every fragment; ``shape`` is (models, rows)."""

    shape: tuple[int, ...]
    fragments: list[DenseBatch | list[EncodedBatch]]
