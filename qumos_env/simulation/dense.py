"""Circuits of a few qubits as dense linear algebra, for M sets of weights at once.

For a circuit of a few qubits qsim's work is dwarfed by the cost of refilling it with angles, once per model and step; here one
NumPy operation serves all gates of all layers of all models. The K redraws of a reward train the same design K times, so M is
usually above 1; but for few qubits this is the fastest route for one model too (see ``adjoint``). The price grows as 8**n. It
agrees with the qsim routes to single precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .instructions import Fixed, InputRotation, Program, Rotation
from .layers import Chains, HalfAngles, Phases, pack, pauli_readings, z_signs
from .states import PAULI, ProductStates, checked_inputs, gate_matrix


@dataclass(frozen=True)
class Unitaries:
    """M unitaries of a segment, and what reading gradients needs of their making.

    Attributes:
        whole: complex64 ``[M, 2**n, 2**n]``.
        prefixes: unitaries up to the end of every layer with rotations, ``[M, layers, 2**n, 2**n]``.
        angles: of the gates of the local layers.
    """

    whole: np.ndarray
    prefixes: np.ndarray
    angles: HalfAngles


class DenseSegment:
    """A run of gates as M matrices of 2**n × 2**n.

    Attributes:
        weights, scales: for every rotation, in the order of ``gradients``, the weight it depends on and the factor between weight and
            angle.
    """

    def __init__(self, gates: Sequence[Fixed | Rotation], n_qubits: int) -> None:
        self._size = 2**n_qubits
        self._readings = pauli_readings(n_qubits)
        self._order = _rows_first(n_qubits)
        layers = pack(gates, n_qubits)
        local = [layer for layer in layers if layer.kind == "local"]
        self._chains = Chains(local, n_qubits)
        self._phases = [Phases(layer, n_qubits) for layer in layers if layer.kind == "diagonal"]
        # Layers with rotations in order: the number among the diagonal ones (a local one has none), and the fixed gates in front of it.
        self._steps: list[tuple[int | None, np.ndarray | None]] = []
        n_diagonal = 0
        fixed: np.ndarray | None = None
        for layer in layers:
            if layer.kind == "constant":
                for gate in layer.gates:
                    assert isinstance(gate, Fixed)
                    fixed = _embed(gate_matrix(gate), gate.qubits, n_qubits) @ (np.eye(self._size) if fixed is None else fixed)
                continue
            self._steps.append((None if layer.kind == "local" else n_diagonal, None if fixed is None else fixed.astype(np.complex64)))
            n_diagonal += layer.kind == "diagonal"
            fixed = None
        self._local_steps = [index for index, (number, _) in enumerate(self._steps) if number is None]
        self._fixed_before_local = self._stacked_fixed()
        self._last = None if fixed is None else _column_if_diagonal(fixed.astype(np.complex64))
        self.weights = np.concatenate([self._chains.weights, *(phases.weights for phases in self._phases)])
        self.scales = np.concatenate([self._chains.scales, *(phases.scales for phases in self._phases)])

    def _stacked_fixed(self) -> np.ndarray | None:
        """The fixed gates in front of the local layers, to be applied to all in one operation; rows of phases where all are diagonal."""
        found = [self._steps[index][1] for index in self._local_steps]
        if all(matrix is None for matrix in found):
            return None
        stacked = np.stack([np.eye(self._size, dtype=np.complex64) if matrix is None else matrix for matrix in found])
        diagonal = np.einsum("laa->la", stacked)
        return diagonal[:, None, :].copy() if np.count_nonzero(stacked) == np.count_nonzero(diagonal) else stacked

    def unitaries(self, weights: np.ndarray) -> Unitaries:
        """Of ``weights`` float64 ``[M, weights]``."""
        angles = self._chains.half_angles(weights)
        if not self._local_steps:
            prefixes = np.empty((len(weights), len(self._steps), self._size, self._size), np.complex64)
        else:
            prefixes = _kronecker(self._chains.products(angles), self._order)
            if self._fixed_before_local is not None:
                diagonal = self._fixed_before_local.shape[1] == 1
                prefixes = prefixes * self._fixed_before_local if diagonal else prefixes @ self._fixed_before_local
            if len(self._local_steps) < len(self._steps):
                local = prefixes
                prefixes = np.empty((len(weights), len(self._steps), self._size, self._size), np.complex64)
                prefixes[:, self._local_steps] = local
        current: np.ndarray | None = None
        for index, (number, fixed) in enumerate(self._steps):
            if number is None:
                if current is not None:
                    prefixes[:, index] = prefixes[:, index] @ current
            else:
                before = np.eye(self._size, dtype=np.complex64) if fixed is None else fixed
                before = before if current is None else current if fixed is None else before @ current
                prefixes[:, index] = self._phases[number].factors(weights)[:, :, None] * before
            current = prefixes[:, index]
        if current is None:
            current = np.broadcast_to(np.eye(self._size, dtype=np.complex64), (len(weights), self._size, self._size))
        if self._last is not None:
            current = self._last * current if self._last.shape[1] == 1 else self._last @ current
        return Unitaries(current, prefixes, angles)

    def gradients(self, transition: np.ndarray, unitaries: Unitaries) -> np.ndarray:
        """∂L/∂angle of every rotation, ``[M, rotations]``, in the order of ``self.weights``.

        ``transition`` is C = Σ ψλ† carried to the front of the segment, ``[M, 2**n, 2**n]``; behind a prefix A it is ACA†.
        """
        prefixes = unitaries.prefixes
        models, _, size, _ = prefixes.shape
        # One product for all prefixes of a model, then one for each.
        behind = (prefixes.reshape(models, -1, size) @ transition).reshape(prefixes.shape) @ prefixes.conj().swapaxes(-1, -2)
        found = []
        if self._local_steps:
            of_local = behind if len(self._local_steps) == len(self._steps) else behind[:, self._local_steps]
            numbers = of_local.reshape(models, len(self._local_steps), -1).view(np.float32) @ self._readings
            found.append(self._chains.readings(unitaries.angles, numbers.reshape(*numbers.shape[:2], -1, 3)))
        for index, (number, _) in enumerate(self._steps):
            if number is not None:
                found.append(self._phases[number].readings(np.einsum("maa->ma", behind[:, index])))
        return np.concatenate(found, axis=1) if len(found) > 1 else found[0] if found else np.zeros((len(transition), 0))


def _column_if_diagonal(matrix: np.ndarray) -> np.ndarray:
    """``matrix`` as a column that multiplies the rows of another, if it is diagonal."""
    diagonal = np.diag(matrix)
    return diagonal[:, None].copy() if np.count_nonzero(matrix) == np.count_nonzero(diagonal) else matrix


def _embed(matrix: np.ndarray, qubits: Sequence[int], n_qubits: int) -> np.ndarray:
    """``matrix`` on ``qubits`` of the register, ``[2**n, 2**n]``."""
    full = np.eye(2**n_qubits, dtype=complex).reshape((2,) * n_qubits + (-1,))
    k = len(qubits)
    moved = np.tensordot(matrix.reshape((2,) * (2 * k)), full, axes=(range(k, 2 * k), qubits))
    return np.moveaxis(moved, range(k), qubits).reshape(2**n_qubits, -1)


def _kronecker(factors: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The Kronecker products over the third axis: ``[M, layers, n, 2, 2]`` to ``[M, layers, 2**n, 2**n]``.

    ``order`` is ``_rows_first(n)``: products of whole matrices, put in order at the end, have long rows and little overhead.
    """
    models, layers, count = factors.shape[:3]
    found, tail = factors.reshape(models, layers, count, 4), None
    while count > 1:
        if count % 2:
            last = found[:, :, -1]
            tail = last if tail is None else (last[..., :, None] * tail[..., None, :]).reshape(models, layers, -1)
            found = found[:, :, :-1]
        count //= 2
        found = (found[:, :, 0::2, :, None] * found[:, :, 1::2, None, :]).reshape(models, layers, count, -1)
    whole = found[:, :, 0] if tail is None else found[:, :, 0, :, None] * tail[:, :, None, :]
    size = 2 ** factors.shape[2]
    return whole.reshape(models, layers, -1).take(order, axis=2).reshape(models, layers, size, size)


def _rows_first(n_qubits: int) -> np.ndarray:
    """From (row bit, column bit) of every qubit in turn to all row bits before all column bits, ``[4**n]``."""
    axes = [*range(0, 2 * n_qubits, 2), *range(1, 2 * n_qubits, 2)]
    return np.arange(4**n_qubits).reshape((2,) * (2 * n_qubits)).transpose(axes).ravel()


@dataclass(frozen=True)
class DenseBatch:
    """Inputs ``[M, B, inputs]`` and their encoded states complex64 ``[M, 2**n, B]``."""

    inputs: np.ndarray
    states: np.ndarray


@dataclass(frozen=True)
class DenseTape:
    """What a forward pass keeps: per segment its unitaries, and the states before it; and the states at the end."""

    batch: DenseBatch
    unitaries: list[Unitaries]
    before: list[np.ndarray]
    final: np.ndarray


class DenseEngine:
    """⟨Z⟩ of every qubit, and gradients, of M models of one program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._product_states = ProductStates(program.encoding)
        self._segments = [DenseSegment(gates, program.n_qubits) for gates in program.segments]
        # From the angles of a segment to the weights, several angles a weight allowed.
        self._scatter = [segment.scales[:, None] * (segment.weights[:, None] == np.arange(program.n_weights)) for segment in self._segments]
        self._signs = np.stack([z_signs([qubit], program.n_qubits) for qubit in range(program.n_qubits)]).astype(np.float32)

    def encode(self, inputs: np.ndarray) -> DenseBatch:
        """``inputs`` in radians, float ``[M, B, inputs]``; raises QumosError for an empty batch, NaN or infinity."""
        models, size, width = inputs.shape
        states = self._product_states(checked_inputs(inputs.reshape(models * size, width), self.program.n_inputs))
        return DenseBatch(inputs, np.ascontiguousarray(states.reshape(-1, models, size).swapaxes(0, 1), np.complex64))

    def forward(self, weights: np.ndarray, batch: DenseBatch) -> tuple[np.ndarray, DenseTape]:
        """⟨Z⟩ float32 ``[M, B, qubits]`` for ``weights`` ``[M, weights]``, and the tape."""
        states = batch.states
        unitaries, before = [], []
        for index, segment in enumerate(self._segments):
            if index:
                for rotation in self.program.reuploads[index - 1]:
                    states = self._reupload(states, rotation, batch)
            before.append(states)
            unitaries.append(segment.unitaries(weights))
            states = unitaries[-1].whole @ states
        values = self._signs @ (states.real**2 + states.imag**2)
        return values.swapaxes(1, 2), DenseTape(batch, unitaries, before, states)

    def backward(self, tape: DenseTape, cotangents: np.ndarray) -> np.ndarray:
        """∂L/∂weights float64 ``[M, weights]`` for ∂L/∂⟨Z⟩ ``[M, B, qubits]``."""
        gradient = np.zeros((len(cotangents), self.program.n_weights))
        costates = (self._signs.T @ cotangents.swapaxes(1, 2).astype(np.float32)) * tape.final
        for index in reversed(range(len(self._segments))):
            segment, unitaries = self._segments[index], tape.unitaries[index]
            # λ is carried to the front as a matrix of states where an earlier segment needs it, else only as part of Σ ψλ†.
            if index:
                costates = unitaries.whole.conj().swapaxes(1, 2) @ costates
                transition = tape.before[index] @ costates.conj().swapaxes(1, 2)
            else:
                transition = tape.before[0] @ costates.conj().swapaxes(1, 2) @ unitaries.whole
            gradient += segment.gradients(transition, unitaries) @ self._scatter[index]
            if index:
                for rotation in reversed(self.program.reuploads[index - 1]):
                    costates = self._reupload(costates, rotation, tape.batch, inverse=True)
        return gradient

    def _reupload(self, states: np.ndarray, rotation: InputRotation, batch: DenseBatch, *, inverse: bool = False) -> np.ndarray:
        models, size, columns = states.shape
        low = 2 ** (self.program.n_qubits - 1 - rotation.qubit)
        shaped = states.reshape(models, -1, 2, low, columns)
        angle = (batch.inputs[:, :, rotation.feature] * rotation.scale + rotation.offset) * (-0.5 if inverse else 0.5)
        cosine = np.cos(angle).astype(np.float32)[:, None, None, :]
        sine = np.sin(angle).astype(np.float32)[:, None, None, :]
        turn = (-1j * PAULI[rotation.axis]).astype(np.complex64)
        zero, one = shaped[:, :, 0], shaped[:, :, 1]
        rotated = [cosine * same + sine * (turn[row, 0] * zero + turn[row, 1] * one) for row, same in ((0, zero), (1, one))]
        return np.stack(rotated, axis=2).reshape(models, size, columns)

