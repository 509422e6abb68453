"""A segment's gates as layers, so that all rotations of a layer have their gradients read at one point.

With ψ and λ = ∂L/∂⟨ψ| behind a gate exp(-iθG/2) and ρ = Σ ψλ† over the batch, ∂L/∂θ = Im Tr(Gρ). For the chains of one-qubit gates of
a *local* layer Im Tr(Pρ) behind the layer suffices for P = X, Y, Z on every qubit (what a gate makes of a Pauli is a turn of these
three numbers), for the rotations of a *diagonal* layer the diagonal of ρ. So a pass of 36 gates is read at some three points instead
of at every gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from .instructions import TO_Z, Fixed, Rotation
from .states import PAULI, gate_matrix


@dataclass
class Layer:
    """Gates that act together.

    Attributes:
        kind: ``local``: gates on single qubits, several in a row allowed; ``diagonal``: rotations about products of Z;
            ``constant``: fixed gates on several qubits.
        gates: in circuit order.
    """

    kind: Literal["local", "diagonal", "constant"]
    gates: list[Fixed | Rotation] = field(default_factory=list)


def pack(gates: Sequence[Fixed | Rotation], n_qubits: int) -> list[Layer]:
    """``gates`` in few layers, in an order that keeps theirs on shared qubits.

    Rotations about products with X and Y are turned to Z by fixed gates around them.
    """
    layers: list[Layer] = []
    last = [-1] * n_qubits
    for gate in (piece for original in gates for piece in _about_z(original)):
        kind: Literal["local", "diagonal", "constant"] = (
            "local" if len(gate.qubits) == 1 else "diagonal" if isinstance(gate, Rotation) else "constant"
        )
        touched = max(last[qubit] for qubit in gate.qubits)
        # Within a layer the order of gates on a qubit is kept, so that a gate may join the layer that last touched its qubits.
        start = touched if touched >= 0 and layers[touched].kind == kind else touched + 1
        at = next((index for index in range(start, len(layers)) if layers[index].kind == kind), len(layers))
        if at == len(layers):
            layers.append(Layer(kind))
        layers[at].gates.append(gate)
        for qubit in gate.qubits:
            last[qubit] = at
    return layers


def _about_z(gate: Fixed | Rotation) -> list[Fixed | Rotation]:
    if isinstance(gate, Fixed) or len(gate.qubits) == 1 or set(gate.axes) == {"Z"}:
        return [gate]
    turns = [Fixed("matrix", (q,), TO_Z[axis]) for q, axis in zip(gate.qubits, gate.axes, strict=True) if axis != "Z"]
    back = [Fixed("matrix", turn.qubits, gate_matrix(turn).conj().T) for turn in turns]
    return [*turns, Rotation("Z" * len(gate.qubits), gate.qubits, gate.weight, gate.scale, gate.offset), *back]


def z_signs(qubits: Sequence[int], n_qubits: int) -> np.ndarray:
    """Diagonal of Z on all ``qubits``, float64 ``[2**n]``."""
    index = np.arange(2**n_qubits)
    sign = np.ones(2**n_qubits)
    for qubit in qubits:
        sign = sign * (1 - 2 * ((index >> (n_qubits - 1 - qubit)) & 1))
    return sign


@lru_cache(maxsize=32)
def pauli_readings(n_qubits: int) -> np.ndarray:
    """The map from ρ of n qubits to Im Tr(Pρ) for P = X, Y, Z on every qubit.

    float32 ``[2·4**n, 3·n]``, on matrices complex64 that are flattened and seen as real numbers.
    """
    index = np.arange(2**n_qubits)
    found = np.zeros((n_qubits, 3, len(index), len(index)), complex)
    for qubit in range(n_qubits):
        shift = n_qubits - 1 - qubit
        bit = (index >> shift) & 1
        for other in (0, 1):
            column = (index & ~(1 << shift)) | (other << shift)
            for number, pauli in enumerate(PAULI.values()):
                found[qubit, number, index, column] = pauli[other, bit]
    # Im(a·b) = Re(a)·Im(b) + Im(a)·Re(b).
    parts = np.stack([found.imag, found.real], axis=-1).reshape(3 * n_qubits, -1)
    return np.ascontiguousarray(parts.T, np.float32)


def _turn(gate: np.ndarray) -> np.ndarray:
    """What U†…U makes of Im Tr(Pρ): float64 ``[3, 3]``, to be multiplied from the right."""
    paulis = np.stack(list(PAULI.values()))
    return np.einsum("bij,jk,akl,il->ba", paulis, gate, paulis, gate.conj()).real / 2


@dataclass(frozen=True)
class HalfAngles:
    """cos(θ/2) and sin(θ/2) of M times a segment's one-qubit gates, float32 ``[M, layers, n, D, 1]``; θ is 0 for a fixed gate."""

    cosine: np.ndarray
    sine: np.ndarray


class Chains:
    """The chains of one-qubit gates of all local layers of a segment, padded to one length D.

    Args:
        layers: the local layers.
        n_qubits: width.

    Attributes:
        weights, scales: of every rotation, in the order of ``readings``.
    """

    def __init__(self, layers: Sequence[Layer], n_qubits: int) -> None:
        chains: dict[tuple[int, int], list[Fixed | Rotation]] = {}
        for number, layer in enumerate(layers):
            for gate in layer.gates:
                chains.setdefault((number, gate.qubits[0]), []).append(gate)
        depth = max(map(len, chains.values()), default=0)
        shape = (len(layers), n_qubits, depth)
        # A gate is cos(θ/2)·cosine + sin(θ/2)·sine, a fixed gate one with θ = 0.
        cosine = np.tile(np.eye(2, dtype=np.complex64), (*shape, 1, 1))
        sine = np.zeros((*shape, 2, 2), np.complex64)
        # Its turn about an axis is 1 + sin(θ)·K + (1 - cos(θ))·K² (Rodrigues), where 1 - cos(θ) is 2·sin²(θ/2).
        upright = np.tile(np.eye(3, dtype=np.float32), (*shape, 1, 1))
        cross = np.zeros((*shape, 3, 3), np.float32)
        axis = np.zeros(shape, np.intp)
        weight, scale, offset = np.zeros(shape, np.intp), np.zeros(shape), np.zeros(shape)
        rotates = np.zeros(shape, bool)
        for (number, qubit), chain in chains.items():
            for step, gate in enumerate(chain):
                at = number, qubit, step
                if isinstance(gate, Fixed):
                    cosine[at] = gate_matrix(gate)
                    upright[at] = _turn(gate_matrix(gate))
                    continue
                sine[at] = -1j * PAULI[gate.axes]
                axis[at] = list(PAULI).index(gate.axes)
                cross[at] = np.cross(np.eye(3)[axis[at]], np.eye(3), axisb=0, axisc=0)
                weight[at], scale[at], offset[at], rotates[at] = gate.weight, gate.scale, gate.offset, True
        self._shape = shape
        # Real and imaginary parts side by side: real arithmetic on 8 numbers a gate has less overhead than complex on 2×2.
        self._cosine, self._sine = (matrices.view(np.float32).reshape(*shape, 8) for matrices in (cosine, sine))
        self._upright, self._cross, self._cross_squared = (
            turns[:, :, 1:].reshape(*shape[:2], max(depth - 1, 0), 9) for turns in (upright, 2 * cross, 2 * cross @ cross)
        )
        self._weight, self._half_scale, self._half_offset = weight[..., None], scale[..., None] / 2, offset[..., None] / 2
        rotating = np.flatnonzero(rotates)
        self._read = 3 * rotating + axis.ravel()[rotating]
        self.weights = weight.ravel()[rotating]
        self.scales = scale.ravel()[rotating]

    def half_angles(self, weights: np.ndarray) -> HalfAngles:
        """Of every gate, for ``weights`` ``[M, weights]``."""
        if len(self._read):
            half = weights.take(self._weight, axis=1)
            half *= self._half_scale
            half += self._half_offset
        else:
            half = np.zeros((len(weights), *self._weight.shape))
        return HalfAngles(np.cos(half).astype(np.float32), np.sin(half).astype(np.float32))

    def products(self, angles: HalfAngles) -> np.ndarray:
        """The unitary of every chain, complex64 ``[M, layers, n, 2, 2]``."""
        parts = angles.cosine * self._cosine
        parts += angles.sine * self._sine
        matrices = parts.view(np.complex64).reshape(len(parts), *self._shape, 2, 2)
        product = matrices[:, :, :, 0]
        for step in range(1, self._shape[2]):
            product = matrices[:, :, :, step] @ product
        return product

    def readings(self, angles: HalfAngles, behind: np.ndarray) -> np.ndarray:
        """∂L/∂angle of every rotation, float32 ``[M, rotations]``.

        Args:
            angles: of the same gates.
            behind: Im Tr(Pρ) behind each layer for P = X, Y, Z on every qubit, float32 ``[M, layers, n, 3]``.
        """
        layers, n_qubits, depth = self._shape
        if depth > 1:
            sine = angles.sine[:, :, :, 1:]
            turns = angles.cosine[:, :, :, 1:] * self._cross
            turns += sine * self._cross_squared
            turns *= sine
            turns += self._upright
            turns = turns.reshape(*turns.shape[:-1], 3, 3)
            found = np.empty((len(behind), layers, n_qubits, depth, 1, 3), np.float32)
            found[..., -1, 0, :] = behind
            for step in reversed(range(1, depth)):
                np.matmul(found[..., step, :, :], turns[..., step - 1, :, :], out=found[..., step - 1, :, :])
            behind = found
        return behind.reshape(len(behind), -1).take(self._read, axis=1)


class Phases:
    """The rotations of one diagonal layer.

    Attributes:
        weights, scales: of every rotation, in the order of ``readings``.
    """

    def __init__(self, layer: Layer, n_qubits: int) -> None:
        rotations = [gate for gate in layer.gates if isinstance(gate, Rotation)]
        self._signs = np.stack([z_signs(gate.qubits, n_qubits) for gate in rotations])
        self.weights = np.array([gate.weight for gate in rotations], np.intp)
        self.scales = np.array([gate.scale for gate in rotations])
        self._offsets = np.array([gate.offset for gate in rotations])

    def factors(self, weights: np.ndarray) -> np.ndarray:
        """One phase per basis state, complex64 ``[M, 2**n]``."""
        angles = weights[:, self.weights] * self.scales + self._offsets
        return np.exp(-0.5j * (angles @ self._signs)).astype(np.complex64)

    def readings(self, diagonal: np.ndarray) -> np.ndarray:
        """∂L/∂angle of every rotation, ``[M, rotations]``, from the ``diagonal`` of ρ behind (or before) the layer, ``[M, 2**n]``."""
        return diagonal.imag @ self._signs.T
