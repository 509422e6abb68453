"""Many trainings of one small circuit at once: the same program with M sets of weights on M batches of inputs.

The K redraws of a reward train the same design K times. For a circuit of a few qubits qsim's work is dwarfed by the cost of
refilling it with angles, once per model and step; here one NumPy operation serves all models. The program is packed into
layers (rotations and fixed gates of single qubits; diagonal gates; other fixed gates), each a matrix of 2**n × 2**n per model.
The price grows as 8**n, so this route is for small n only; it agrees with the qsim routes to single precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .program import Fixed, InputRotation, Program, Rotation
from .states import NATIVE_MATRIX, PAULI, product_states

_PERIOD = 4 * np.pi


@dataclass
class _Layer:
    """Gates that act together: ``local`` on single qubits, ``diagonal``, or any ``fixed`` ones.

    Attributes:
        kind: which of the three.
        rotations: its rotations, as (number in the program, gate).
        constants: its fixed gates.
    """

    kind: str
    rotations: list[tuple[int, Rotation]] = field(default_factory=list)
    constants: list[Fixed] = field(default_factory=list)


def _matrix(gate: Fixed) -> np.ndarray:
    return gate.matrix if gate.matrix is not None else NATIVE_MATRIX[gate.name]


def _kind(gate: Fixed | Rotation) -> str:
    if isinstance(gate, Rotation):
        if set(gate.axes) == {"Z"}:
            return "diagonal"
        return "local" if len(gate.axes) == 1 else "other"
    if np.count_nonzero(_matrix(gate) - np.diag(np.diag(_matrix(gate)))) == 0:
        return "diagonal"
    return "local" if len(gate.qubits) == 1 else "fixed"


def supports(program: Program) -> bool:
    """Whether all gates of ``program`` have a place in a layer (products of X and Y rotations have none)."""
    return all(_kind(gate) != "other" for segment in program.segments for gate in segment)


def _pack(gates: Sequence[Fixed | Rotation], n_qubits: int, first_rotation: int) -> list[_Layer]:
    """Gates in as few layers as the order on shared qubits allows."""
    layers: list[_Layer] = []
    last = [-1] * n_qubits
    number = first_rotation
    for gate in gates:
        kind = _kind(gate)
        touched = max(last[qubit] for qubit in gate.qubits)
        # Diagonal gates commute, and fixed gates multiply: both may join the layer that last touched their qubits.
        joins = touched >= 0 and layers[touched].kind == kind and kind != "local"
        start = touched if joins else touched + 1
        at = next((index for index in range(start, len(layers)) if layers[index].kind == kind), len(layers))
        if at == len(layers):
            layers.append(_Layer(kind))
        if isinstance(gate, Rotation):
            layers[at].rotations.append((number, gate))
            number += 1
        else:
            layers[at].constants.append(gate)
        for qubit in gate.qubits:
            last[qubit] = at
    return layers


def _embed(matrix: np.ndarray, qubits: Sequence[int], n_qubits: int) -> np.ndarray:
    """``matrix`` on ``qubits`` of the register, ``[2**n, 2**n]``."""
    full = np.eye(2**n_qubits, dtype=complex).reshape((2,) * n_qubits + (-1,))
    k = len(qubits)
    moved = np.tensordot(matrix.reshape((2,) * (2 * k)), full, axes=(range(k, 2 * k), qubits))
    return np.moveaxis(moved, range(k), qubits).reshape(2**n_qubits, -1)


def _signs(qubits: Sequence[int], n_qubits: int) -> np.ndarray:
    """Diagonal of Z on all ``qubits``, ``[2**n]``."""
    index = np.arange(2**n_qubits)
    sign = np.ones(2**n_qubits)
    for qubit in qubits:
        sign = sign * (1 - 2 * ((index >> (n_qubits - 1 - qubit)) & 1))
    return sign


class _Local:
    """A layer of single-qubit gates: the Kronecker product of a 2×2 matrix per qubit."""

    def __init__(self, layer: _Layer, n_qubits: int) -> None:
        constant = np.stack([np.eye(2, dtype=complex)] * n_qubits)
        for gate in layer.constants:
            constant[gate.qubits[0]] = _matrix(gate)
        self._constant = constant.astype(np.complex64)
        self._qubits = [gate.qubits[0] for _, gate in layer.rotations]
        self.numbers = [number for number, _ in layer.rotations]
        generators = [_embed(PAULI[gate.axes], gate.qubits, n_qubits).T.ravel() for _, gate in layer.rotations]
        self._generators = np.stack(generators, axis=1).astype(np.complex64) if generators else None

    def build(self, rotations: np.ndarray, angles: np.ndarray) -> np.ndarray:
        """``[M, 2**n, 2**n]`` from all rotation matrices of the program ``[M, rotations, 2, 2]``."""
        factors = np.broadcast_to(self._constant, (len(rotations), *self._constant.shape))
        if self._qubits:
            factors = factors.copy()
            factors[:, self._qubits] = rotations[:, self.numbers]
        pieces = [factors[:, qubit] for qubit in range(factors.shape[1])]
        while len(pieces) > 1:
            pieces = [_kron(*pieces[at : at + 2]) if at + 1 < len(pieces) else pieces[at] for at in range(0, len(pieces), 2)]
        return pieces[0]

    @staticmethod
    def apply(matrix: np.ndarray, states: np.ndarray) -> np.ndarray:
        return matrix @ states

    @staticmethod
    def back(matrix: np.ndarray, transition: np.ndarray) -> np.ndarray:
        return matrix.conj().swapaxes(-1, -2) @ transition @ matrix

    def readings(self, transition: np.ndarray) -> np.ndarray:
        """Im Tr(G_k ρ) for every rotation of the layer, ``[M, rotations]``."""
        return (transition.reshape(len(transition), -1) @ self._generators).imag


def _kron(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    m, a, b = len(left), left.shape[1], right.shape[1]
    return (left[:, :, None, :, None] * right[:, None, :, None, :]).reshape(m, a * b, a * b)


class _Diagonal:
    """A layer of diagonal gates: one phase per basis state."""

    def __init__(self, layer: _Layer, n_qubits: int) -> None:
        constant = np.ones(2**n_qubits, complex)
        for gate in layer.constants:
            constant = constant * np.diag(_embed(_matrix(gate), gate.qubits, n_qubits))
        self._constant = constant.astype(np.complex64)
        self.numbers = [number for number, _ in layer.rotations]
        self._sign = np.stack([_signs(gate.qubits, n_qubits) for _, gate in layer.rotations]) if self.numbers else None

    def build(self, rotations: np.ndarray, angles: np.ndarray) -> np.ndarray:
        """``[M, 2**n]``."""
        if self._sign is None:
            return np.broadcast_to(self._constant, (len(angles), len(self._constant)))
        return self._constant * np.exp(-0.5j * (angles[:, self.numbers] @ self._sign)).astype(np.complex64)

    @staticmethod
    def apply(matrix: np.ndarray, states: np.ndarray) -> np.ndarray:
        return matrix[:, :, None] * states

    @staticmethod
    def back(matrix: np.ndarray, transition: np.ndarray) -> np.ndarray:
        return matrix.conj()[:, :, None] * transition * matrix[:, None, :]

    def readings(self, transition: np.ndarray) -> np.ndarray:
        """Im Tr(G_k ρ) for every rotation of the layer, ``[M, rotations]``."""
        assert self._sign is not None
        return np.einsum("maa->ma", transition).imag @ self._sign.T


class _Constant(_Local):
    """A layer of fixed gates on several qubits: one matrix for all models."""

    def __init__(self, layer: _Layer, n_qubits: int) -> None:
        full = np.eye(2**n_qubits, dtype=complex)
        for gate in layer.constants:
            full = _embed(_matrix(gate), gate.qubits, n_qubits) @ full
        self._full = full.astype(np.complex64)
        self.numbers = []

    def build(self, rotations: np.ndarray, angles: np.ndarray) -> np.ndarray:
        """``[M, 2**n, 2**n]``."""
        return np.broadcast_to(self._full, (len(angles), *self._full.shape))


def _layer(layer: _Layer, n_qubits: int) -> _Local | _Diagonal:
    if layer.kind == "diagonal":
        return _Diagonal(layer, n_qubits)
    return _Local(layer, n_qubits) if layer.kind == "local" else _Constant(layer, n_qubits)


@dataclass(frozen=True)
class DenseBatch:
    """Inputs ``[M, B, inputs]`` and their encoded states complex64 ``[M, 2**n, B]``."""

    inputs: np.ndarray
    states: np.ndarray


@dataclass(frozen=True)
class DenseTape:
    """What a forward pass keeps: per segment the layers' matrices, and the states behind it."""

    batch: DenseBatch
    matrices: list[list[np.ndarray]]
    after: list[np.ndarray]


class DenseEngine:
    """⟨Z⟩ of every qubit, and gradients, of M models of one program.

    Args:
        program: the compiled circuit; ``supports`` must hold.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        n = program.n_qubits
        self._segments: list[list[_Local | _Diagonal]] = []
        rotations: list[Rotation] = []
        for gates in program.segments:
            layers = _pack(gates, n, len(rotations))
            self._segments.append([_layer(layer, n) for layer in layers])
            rotations += [gate for gate in gates if isinstance(gate, Rotation)]
        self._weights = np.array([gate.weight for gate in rotations], np.intp)
        self._scales = np.array([gate.scale for gate in rotations])
        self._offsets = np.array([gate.offset for gate in rotations])
        # exp(-iθP/2) = cos(θ/2) - i sin(θ/2) P for one-qubit rotations; products are diagonal and take their angle directly.
        axes = [gate.axes if len(gate.axes) == 1 else "Z" for gate in rotations]
        self._minus_i_pauli = np.array([-1j * PAULI[axis] for axis in axes], np.complex64).reshape(-1, 2, 2)
        self._one_weight_each = len(set(self._weights.tolist())) == len(self._weights)
        self._signs = np.stack([_signs([qubit], n) for qubit in range(n)]).astype(np.float32)

    def encode(self, inputs: np.ndarray) -> DenseBatch:
        """``inputs`` in radians, float ``[M, B, inputs]``."""
        models, size = inputs.shape[:2]
        states = product_states(self.program, inputs.reshape(models * size, -1))
        return DenseBatch(inputs, np.ascontiguousarray(states.reshape(-1, models, size).swapaxes(0, 1), np.complex64))

    def forward(self, weights: np.ndarray, batch: DenseBatch) -> tuple[np.ndarray, DenseTape]:
        """⟨Z⟩ float32 ``[M, B, qubits]`` for ``weights`` ``[M, weights]``, and the tape."""
        angles = (weights[:, self._weights] * self._scales + self._offsets) % _PERIOD
        half = angles[..., None, None] / 2
        rotations = (np.cos(half) * np.eye(2)).astype(np.complex64) + np.sin(half).astype(np.float32) * self._minus_i_pauli
        states = batch.states
        matrices, after = [], []
        for index, segment in enumerate(self._segments):
            if index:
                for rotation in self.program.reuploads[index - 1]:
                    states = self._reupload(states, rotation, batch)
            built = [layer.build(rotations, angles) for layer in segment]
            unitary = np.eye(2**self.program.n_qubits, dtype=np.complex64)[None]
            for layer, matrix in zip(segment, built, strict=True):
                unitary = layer.apply(matrix, unitary)
            states = unitary @ states if segment else states
            matrices.append(built)
            after.append(states)
        values = self._signs @ (states.real**2 + states.imag**2)
        return values.swapaxes(1, 2), DenseTape(batch, matrices, after)

    def backward(self, tape: DenseTape, cotangents: np.ndarray) -> np.ndarray:
        """∂L/∂weights float64 ``[M, weights]`` for ∂L/∂⟨Z⟩ ``[M, B, qubits]``.

        With λ_b = Σ_o ∂L/∂⟨Z_o⟩_b·Z_o·ψ_b and ρ = Σ_b ψ_b·λ_b†, both behind a gate exp(-iθG/2), ∂L/∂θ = Im Tr(Gρ); one layer L
        earlier it is L†ρL.
        """
        readings = np.zeros((len(cotangents), len(self._weights)))
        costates = (self._signs.T @ cotangents.swapaxes(1, 2).astype(np.float32)) * tape.after[-1]
        for index in reversed(range(len(self._segments))):
            states = tape.after[index]
            transition = states @ costates.conj().swapaxes(1, 2)
            segment, matrices = self._segments[index], tape.matrices[index]
            first = next((at for at, layer in enumerate(segment) if layer.numbers), len(segment))
            for at in reversed(range(len(segment))):
                if segment[at].numbers:
                    readings[:, segment[at].numbers] = segment[at].readings(transition)
                if at <= first:
                    break
                transition = segment[at].back(matrices[at], transition)
            if index:
                for layer, matrix in zip(reversed(segment), reversed(matrices), strict=True):
                    inverse = matrix.conj() if isinstance(layer, _Diagonal) else matrix.conj().swapaxes(-1, -2)
                    costates = layer.apply(inverse, costates)
                for rotation in reversed(self.program.reuploads[index - 1]):
                    costates = self._reupload(costates, rotation, tape.batch, inverse=True)
        scaled = readings * self._scales
        gradient = np.zeros((len(cotangents), self.program.n_weights))
        if self._one_weight_each:
            gradient[:, self._weights] = scaled
        else:
            for number, weight in enumerate(self._weights):
                gradient[:, weight] += scaled[:, number]
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
