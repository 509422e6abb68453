"""A segment's gates as layers, so that all rotations of a layer have their gradients read at one point.

With ψ and λ = ∂L/∂⟨ψ| behind a gate exp(-iθG/2) and ρ = Σ ψλ† over the batch, ∂L/∂θ = Im Tr(Gρ). For the chains of one-qubit gates of
a *local* layer the 2×2 partial traces of ρ behind the layer suffice, for the rotations of a *diagonal* layer its diagonal. So a
pass of 36 gates is read at some three points instead of at every gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from .program import TO_Z, Fixed, Rotation
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
def partial_traces(n_qubits: int) -> np.ndarray:
    """The map from a matrix of n qubits to its 2×2 partial trace on every qubit: complex64 ``[4**n, 4·n]`` on flattened matrices."""
    size = 2**n_qubits
    index = np.arange(size)
    found = np.zeros((size, size, n_qubits, 2, 2), np.complex64)
    for qubit in range(n_qubits):
        shift = n_qubits - 1 - qubit
        bit = (index >> shift) & 1
        for other in (0, 1):
            column = (index & ~(1 << shift)) | (other << shift)
            found[index, column, qubit, bit, other] = 1
    return found.reshape(size * size, -1)


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
        generators = np.zeros((*shape, 4), np.complex64)
        weight, scale, offset = np.zeros(shape, np.intp), np.zeros(shape), np.zeros(shape)
        rotates = np.zeros(shape, bool)
        for (number, qubit), chain in chains.items():
            for step, gate in enumerate(chain):
                at = number, qubit, step
                if isinstance(gate, Fixed):
                    cosine[at] = gate_matrix(gate)
                    continue
                sine[at] = -1j * PAULI[gate.axes]
                generators[at] = PAULI[gate.axes].T.ravel()
                weight[at], scale[at], offset[at], rotates[at] = gate.weight, gate.scale, gate.offset, True
        self._shape = shape
        # Real and imaginary parts side by side: real arithmetic on 8 numbers a gate has less overhead than complex on 2×2.
        self._cosine = cosine.view(np.float32).reshape(-1, 8)
        self._sine = sine.view(np.float32).reshape(-1, 8)
        # Im(a·b) = Re(a)·Im(b) + Im(a)·Re(b): with parts swapped, a plain product of real numbers.
        self._generators = (1j * generators.conj()).view(np.float32)
        self._weight, self._half_scale, self._half_offset = weight.ravel(), scale.ravel() / 2, offset.ravel() / 2
        self._rotates = np.flatnonzero(rotates)
        self.weights = self._weight[self._rotates]
        self.scales = scale.ravel()[self._rotates]

    def matrices(self, weights: np.ndarray) -> np.ndarray:
        """The unitary of every gate, complex64 ``[M, layers, n, D, 2, 2]``, for ``weights`` ``[M, weights]``."""
        if not len(self._rotates):
            return np.tile(self._cosine.view(np.complex64).reshape(1, *self._shape, 2, 2), (len(weights), 1, 1, 1, 1, 1))
        half = (weights[:, self._weight] * self._half_scale + self._half_offset)[..., None]
        parts = np.cos(half).astype(np.float32) * self._cosine + np.sin(half).astype(np.float32) * self._sine
        return parts.view(np.complex64).reshape(len(weights), *self._shape, 2, 2)

    @staticmethod
    def products(matrices: np.ndarray) -> np.ndarray:
        """The unitary of every chain, complex64 ``[M, layers, n, 2, 2]``."""
        product = matrices[:, :, :, 0]
        for step in range(1, matrices.shape[3]):
            product = matrices[:, :, :, step] @ product
        return product

    def readings(self, matrices: np.ndarray, traces: np.ndarray) -> np.ndarray:
        """∂L/∂angle of every rotation, float32 ``[M, rotations]``.

        Args:
            matrices: see ``matrices``.
            traces: 2×2 partial traces of ρ behind each layer, complex64 ``[M, layers, n, 4]``.
        """
        found = np.empty((len(matrices), *self._shape), np.float32)
        for step in reversed(range(self._shape[2])):
            np.einsum("mlqi,lqi->mlq", traces.view(np.float32), self._generators[:, :, step], out=found[..., step])
            if step:
                gate = matrices[:, :, :, step]
                square = traces.reshape(*traces.shape[:-1], 2, 2)
                traces = (gate.conj().swapaxes(-1, -2) @ square @ gate).reshape(traces.shape)
        return found.reshape(len(matrices), -1)[:, self._rotates]


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
