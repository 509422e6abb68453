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

from .layers import Chains, Phases, pack, partial_traces, z_signs
from .program import Fixed, InputRotation, Program, Rotation
from .states import PAULI, checked_inputs, gate_matrix, product_states


@dataclass(frozen=True)
class Unitaries:
    """M unitaries of a segment, and what reading gradients needs of their making.

    Attributes:
        whole: complex64 ``[M, 2**n, 2**n]``.
        prefixes: unitaries up to the end of every layer with rotations, ``[M, layers, 2**n, 2**n]``.
        chains: of every gate of the local layers, see ``Chains.matrices``.
    """

    whole: np.ndarray
    prefixes: np.ndarray
    chains: np.ndarray


class DenseSegment:
    """A run of gates as M matrices of 2**n × 2**n.

    Attributes:
        weights, scales: for every rotation, in the order of ``gradients``, the weight it depends on and the factor between weight and
            angle.
    """

    def __init__(self, gates: Sequence[Fixed | Rotation], n_qubits: int) -> None:
        self._size = 2**n_qubits
        self._traces = partial_traces(n_qubits)
        layers = pack(gates, n_qubits)
        local = [layer for layer in layers if layer.kind == "local"]
        self._chains = Chains(local, n_qubits)
        self._phases = [Phases(layer, n_qubits) for layer in layers if layer.kind == "diagonal"]
        # Layers with rotations in order, each with the fixed gates in front of it: (is local, number among its kind, those gates).
        self._steps: list[tuple[bool, int, np.ndarray | None]] = []
        counts = {True: 0, False: 0}
        fixed: np.ndarray | None = None
        for layer in layers:
            if layer.kind == "constant":
                for gate in layer.gates:
                    assert isinstance(gate, Fixed)
                    fixed = _embed(gate_matrix(gate), gate.qubits, n_qubits) @ (np.eye(self._size) if fixed is None else fixed)
                continue
            is_local = layer.kind == "local"
            self._steps.append((is_local, counts[is_local], None if fixed is None else fixed.astype(np.complex64)))
            counts[is_local] += 1
            fixed = None
        self._last = None if fixed is None else fixed.astype(np.complex64)
        self._local_steps = [index for index, step in enumerate(self._steps) if step[0]]
        self._fixed_before_local = self._stacked_fixed()
        self.weights = np.concatenate([self._chains.weights, *(phases.weights for phases in self._phases)])
        self.scales = np.concatenate([self._chains.scales, *(phases.scales for phases in self._phases)])

    def _stacked_fixed(self) -> np.ndarray | None:
        """The fixed gates in front of the local layers, to be applied to all in one operation; rows of phases where all are diagonal."""
        found = [self._steps[index][2] for index in self._local_steps]
        if all(matrix is None for matrix in found):
            return None
        stacked = np.stack([np.eye(self._size, dtype=np.complex64) if matrix is None else matrix for matrix in found])
        diagonal = np.einsum("laa->la", stacked)
        return diagonal[:, None, :].copy() if np.count_nonzero(stacked) == np.count_nonzero(diagonal) else stacked

    def unitaries(self, weights: np.ndarray) -> Unitaries:
        """Of ``weights`` float64 ``[M, weights]``."""
        models = len(weights)
        chains = self._chains.matrices(weights)
        if self._local_steps:
            local = _kronecker(Chains.products(chains))
            if self._fixed_before_local is not None:
                diagonal = self._fixed_before_local.shape[1] == 1
                local = local * self._fixed_before_local if diagonal else local @ self._fixed_before_local
        prefixes = np.empty((models, len(self._steps), self._size, self._size), np.complex64)
        current: np.ndarray | None = None
        for index, (is_local, number, fixed) in enumerate(self._steps):
            if is_local:
                following = local[:, number] if current is None else np.matmul(local[:, number], current, out=prefixes[:, index])
            else:
                before = np.eye(self._size, dtype=np.complex64) if fixed is None else fixed
                before = before if current is None else current if fixed is None else before @ current
                following = self._phases[number].factors(weights)[:, :, None] * before
            if following.base is not prefixes:
                prefixes[:, index] = following
            current = prefixes[:, index]
        if current is None:
            current = np.broadcast_to(np.eye(self._size, dtype=np.complex64), (models, self._size, self._size))
        return Unitaries(current if self._last is None else self._last @ current, prefixes, chains)

    def gradients(self, transition: np.ndarray, unitaries: Unitaries) -> np.ndarray:
        """∂L/∂angle of every rotation, ``[M, rotations]``, in the order of ``self.weights``.

        ``transition`` is C = Σ ψλ† carried to the front of the segment, ``[M, 2**n, 2**n]``; behind a prefix A it is ACA†.
        """
        prefixes = unitaries.prefixes
        behind = prefixes @ transition[:, None] @ prefixes.conj().swapaxes(-1, -2)
        found = []
        if self._local_steps:
            of_local = behind if len(self._local_steps) == len(self._steps) else behind[:, self._local_steps]
            shape = of_local.shape[:2]
            traces = (of_local.reshape(*shape, -1) @ self._traces).reshape(*shape, -1, 4)
            found.append(self._chains.readings(unitaries.chains, traces))
        for index, (is_local, number, _) in enumerate(self._steps):
            if not is_local:
                found.append(self._phases[number].readings(np.einsum("maa->ma", behind[:, index])))
        return np.concatenate(found, axis=1) if len(found) > 1 else found[0] if found else np.zeros((len(transition), 0))


def _embed(matrix: np.ndarray, qubits: Sequence[int], n_qubits: int) -> np.ndarray:
    """``matrix`` on ``qubits`` of the register, ``[2**n, 2**n]``."""
    full = np.eye(2**n_qubits, dtype=complex).reshape((2,) * n_qubits + (-1,))
    k = len(qubits)
    moved = np.tensordot(matrix.reshape((2,) * (2 * k)), full, axes=(range(k, 2 * k), qubits))
    return np.moveaxis(moved, range(k), qubits).reshape(2**n_qubits, -1)


def _kronecker(factors: np.ndarray) -> np.ndarray:
    """The Kronecker products over the third axis: ``[M, layers, n, 2, 2]`` to ``[M, layers, 2**n, 2**n]``."""
    tail: np.ndarray | None = None
    while factors.shape[2] > 1:
        if factors.shape[2] % 2:
            tail = factors[:, :, -1] if tail is None else _kron(factors[:, :, -1], tail)
            factors = factors[:, :, :-1]
        factors = _kron(factors[:, :, 0::2], factors[:, :, 1::2])
    return factors[:, :, 0] if tail is None else _kron(factors[:, :, 0], tail)


def _kron(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    a, b = left.shape[-1], right.shape[-1]
    return (left[..., :, None, :, None] * right[..., None, :, None, :]).reshape(*left.shape[:-2], a * b, a * b)


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
        self._segments = [DenseSegment(gates, program.n_qubits) for gates in program.segments]
        # From the angles of a segment to the weights, several angles a weight allowed.
        self._scatter = [segment.scales[:, None] * (segment.weights[:, None] == np.arange(program.n_weights)) for segment in self._segments]
        self._signs = np.stack([z_signs([qubit], program.n_qubits) for qubit in range(program.n_qubits)]).astype(np.float32)

    def encode(self, inputs: np.ndarray) -> DenseBatch:
        """``inputs`` in radians, float ``[M, B, inputs]``; raises QumosError for an empty batch, NaN or infinity."""
        models, size, width = inputs.shape
        states = product_states(self.program, checked_inputs(inputs.reshape(models * size, width), self.program.n_inputs))
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

