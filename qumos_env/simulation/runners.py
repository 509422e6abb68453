"""Ways to take a batch of states through a run of gates and λ back, behind one interface; the engine chooses by size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from .batched import BatchedSegment
from .dense import DenseSegment
from .instructions import Fixed, Rotation


class Runner(Protocol):
    """A run of gates.

    Attributes:
        weights, scales: for every rotation, in the order of the gradients that ``backward`` returns, the weight it depends on and the
            factor between weight and angle.
    """

    weights: np.ndarray
    scales: np.ndarray

    def forward(self, states: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, Any]:
        """The states behind the gates, complex64 ``[2**n, columns]`` in and out, and what ``backward`` needs beside them."""
        ...

    def backward(
        self, costates: np.ndarray, before: np.ndarray, kept: Any, weights: np.ndarray, *, carry: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """∂L/∂angle of every rotation ``[rotations]``, and λ in front of the gates if ``carry``.

        Args:
            costates: λ = Σ_o ∂L/∂⟨O_o⟩·O_o·ψ behind the gates.
            before: the states in front of them.
            kept: from ``forward``.
            weights: as in ``forward``.
            carry: λ is wanted in front, too.
        """
        ...


class StatesRunner:
    """All samples as one state of qsim; ``2**log_batch`` columns."""

    def __init__(self, gates: Sequence[Fixed | Rotation], n_qubits: int, log_batch: int, threads: int) -> None:
        self._segment = BatchedSegment(gates, n_qubits, log_batch, threads)
        self.weights, self.scales = self._segment.weights, self._segment.scales

    def forward(self, states: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        return self._segment.forward(states, weights)

    def backward(
        self, costates: np.ndarray, before: np.ndarray, kept: list[np.ndarray], weights: np.ndarray, *, carry: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        return self._segment.backward(costates, kept, weights, carry=carry)


class BasisRunner:
    """The circuit's unitary from a run of qsim on all basis states; with L = f(UΨ), ∂L/∂U* = λΨ† is the λ of those."""

    def __init__(self, gates: Sequence[Fixed | Rotation], n_qubits: int, threads: int) -> None:
        self._segment = BatchedSegment(gates, n_qubits, n_qubits, threads)
        self._basis = np.eye(2**n_qubits, dtype=np.complex64)
        self.weights, self.scales = self._segment.weights, self._segment.scales

    def forward(self, states: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, list[np.ndarray]]]:
        unitary, kept = self._segment.forward(self._basis, weights)
        return unitary @ states, (unitary, kept)

    def backward(
        self, costates: np.ndarray, before: np.ndarray, kept: tuple[np.ndarray, list[np.ndarray]], weights: np.ndarray, *, carry: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        unitary, points = kept
        readings, _ = self._segment.backward(costates @ before.conj().T, points, weights, carry=False)
        return readings, unitary.conj().T @ costates if carry else None


class DenseRunner:
    """The circuit's unitary by dense linear algebra."""

    def __init__(self, gates: Sequence[Fixed | Rotation], n_qubits: int) -> None:
        self._segment = DenseSegment(gates, n_qubits)
        self.weights, self.scales = self._segment.weights, self._segment.scales

    def forward(self, states: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, Any]:
        unitaries = self._segment.unitaries(weights[None])
        return unitaries.whole[0] @ states, unitaries

    def backward(
        self, costates: np.ndarray, before: np.ndarray, kept: Any, weights: np.ndarray, *, carry: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        unitary = kept.whole[0]
        transition = before @ costates.conj().T @ unitary
        return self._segment.gradients(transition[None], kept)[0], unitary.conj().T @ costates if carry else None
