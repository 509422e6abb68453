"""A run of gates over a batch of states on qsim, with gradients read at few points.

qsim applies gates best and reads expectation values worst: one reading is a pass over all states, and a gradient step has one for
every rotation. (Nor is it good at layers of diagonal gates, which are one elementwise product.) So a segment runs in pieces that
end where a layer of rotations does (see ``layers``). There ψ is kept on the way forward and meets λ on the way back, in matrix
products that trace ρ = Σ ψλ† down to a few qubits at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .instructions import Fixed, Rotation
from .layers import Chains, Layer, Phases, pack, pauli_readings
from .qsim_backend import Segment
from .states import gate_matrix

# Qubits traced together: 2**k more arithmetic than one by one, but k times fewer passes over the states. Measured best of 2, 3, 4.
_GROUP = 3
# From so many columns a block, many small matrix products are faster than copying the states into one large.
_LEAST_COLUMNS = 32


@dataclass(frozen=True)
class _Piece:
    """Layers, and what is read behind them: the local layer with that number, and rotations of diagonal layers that follow directly."""

    layers: tuple[Layer, ...]
    local: int | None
    phases: tuple[int, ...]

    @property
    def is_read(self) -> bool:
        return self.local is not None or bool(self.phases)


class _Diagonal:
    """Diagonal gates of one layer as one phase per basis state."""

    def __init__(self, layer: Layer, n_qubits: int) -> None:
        self._rotations = Phases(layer, n_qubits) if layer.kind == "diagonal" else None
        phases = np.ones(2**n_qubits, complex)
        for gate in layer.gates:
            if isinstance(gate, Fixed):
                phases *= _spread(np.diag(gate_matrix(gate)), gate.qubits, n_qubits)
        # Real factors, such as those of CZ, halve the work.
        self._fixed = (phases.astype(np.complex64) if phases.imag.any() else phases.real.astype(np.float32))[:, None]

    def run(self, states: np.ndarray, weights: np.ndarray, *, inverse: bool = False) -> np.ndarray:
        phases = self._fixed if self._rotations is None else self._rotations.factors(weights[None])[0][:, None]
        return states * (phases.conj() if inverse else phases)


class BatchedSegment:
    """A run of gates on ``n_qubits`` qubits of a batch of ``2**log_batch`` samples.

    Attributes:
        weights, scales: for every rotation, in the order of the gradients that ``backward`` returns, the weight it depends on and the
            factor between weight and angle.
    """

    def __init__(self, gates: Sequence[Fixed | Rotation], n_qubits: int, log_batch: int, threads: int = 1) -> None:
        layers = pack(gates, n_qubits)
        self._n_qubits = n_qubits
        pieces = _pieces(layers)
        self._pieces = pieces
        self._runs = [_runs(piece.layers, n_qubits, log_batch, threads) for piece in pieces]
        local = [layer for layer in layers if _turns(layer)]
        self._chains = Chains(local, n_qubits)
        # Groups of neighbours that hold a rotation of the layer, as (first qubit, number of qubits).
        self._groups = [_groups({gate.qubits[0] for gate in layer.gates if isinstance(gate, Rotation)}, n_qubits) for layer in local]
        self._phases = [Phases(layer, n_qubits) for layer in layers if layer.kind == "diagonal"]
        self.weights = np.concatenate([self._chains.weights, *(phases.weights for phases in self._phases)])
        self.scales = np.concatenate([self._chains.scales, *(phases.scales for phases in self._phases)])

    def forward(self, states: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """The states behind the segment, and those at its reading points: complex64 ``[2**n, 2**b]`` in and out."""
        kept = []
        for piece, runs in zip(self._pieces, self._runs, strict=True):
            for run in runs:
                states = run.run(states, weights)
            if piece.is_read:
                kept.append(states)
        return states, kept

    def backward(
        self, costates: np.ndarray, kept: Sequence[np.ndarray], weights: np.ndarray, *, carry: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """∂L/∂angle of every rotation, float64 ``[rotations]``, and λ in front of the segment if ``carry``.

        Args:
            costates: λ = Σ_o ∂L/∂⟨O_o⟩·O_o·ψ behind the segment.
            kept: what ``forward`` kept.
            weights: as in ``forward``.
            carry: λ is wanted in front, too.
        """
        behind = np.zeros((1, len(self._groups), self._n_qubits, 3), np.float32)
        diagonals: dict[int, np.ndarray] = {}
        points = len(kept)
        for piece, runs in zip(reversed(self._pieces), reversed(self._runs), strict=True):
            if piece.is_read:
                points -= 1
                states, conjugate = kept[points], costates.conj()
                if piece.local is not None:
                    for first, count in self._groups[piece.local]:
                        behind[0, piece.local, first : first + count] = _group_readings(states, conjugate, first, count)
                if piece.phases:
                    diagonal = np.einsum("ib,ib->i", states, conjugate)[None]
                    diagonals |= dict.fromkeys(piece.phases, diagonal)
            if points or carry:
                for run in reversed(runs):
                    costates = run.run(costates, weights, inverse=True)
        readings = [self._chains.readings(self._chains.half_angles(weights[None]), behind)[0]]
        readings += [phases.readings(diagonals[number])[0] for number, phases in enumerate(self._phases)]
        return np.concatenate(readings).astype(np.float64), costates if carry else None


def reading_points(gates: Sequence[Fixed | Rotation], n_qubits: int) -> int:
    """How many arrays of the size of the states ``BatchedSegment.forward`` keeps."""
    return sum(piece.is_read for piece in _pieces(pack(gates, n_qubits)))


def _turns(layer: Layer) -> bool:
    return layer.kind == "local" and any(isinstance(gate, Rotation) for gate in layer.gates)


def _pieces(layers: Sequence[Layer]) -> list[_Piece]:
    """``layers`` cut behind those with rotations; a diagonal layer commutes with its readings, so it can be read in front as well."""
    return list(_cut(layers))


def _cut(layers: Sequence[Layer]) -> Iterator[_Piece]:
    waiting: list[Layer] = []
    n_local = n_diagonal = 0
    index = 0
    while index < len(layers):
        waiting.append(layers[index])
        local, phases = None, []
        if layers[index].kind == "diagonal":
            phases.append(n_diagonal)
            n_diagonal += 1
        elif _turns(layers[index]):
            local = n_local
            n_local += 1
            if index + 1 < len(layers) and layers[index + 1].kind == "diagonal":
                phases.append(n_diagonal)
                n_diagonal += 1
                index += 1
        if local is not None or phases:
            yield _Piece(tuple(waiting), local, tuple(phases))
            # A diagonal layer that has been read in front of it still has to run.
            waiting = [layers[index]] if local is not None and phases else []
        index += 1
    if waiting:
        yield _Piece(tuple(waiting), None, ())


def _runs(layers: Sequence[Layer], n_qubits: int, log_batch: int, threads: int) -> list[Segment | _Diagonal]:
    """``layers`` in order: diagonal ones by themselves, all between them together on qsim."""
    found: list[Segment | _Diagonal] = []
    gates: list[Fixed | Rotation] = []
    for layer in layers:
        if not _is_diagonal(layer):
            gates += layer.gates
            continue
        if gates:
            found.append(Segment(gates, n_qubits, log_batch, threads))
            gates = []
        found.append(_Diagonal(layer, n_qubits))
    return [*found, Segment(gates, n_qubits, log_batch, threads)] if gates else found


def _is_diagonal(layer: Layer) -> bool:
    def diagonal(gate: Fixed) -> bool:
        matrix = gate_matrix(gate)
        return np.count_nonzero(matrix) == np.count_nonzero(np.diag(matrix))

    return layer.kind == "diagonal" or all(isinstance(gate, Fixed) and diagonal(gate) for gate in layer.gates)


def _spread(diagonal: np.ndarray, qubits: Sequence[int], n_qubits: int) -> np.ndarray:
    """The diagonal ``[2**k]`` of a gate on ``qubits`` as that of the register, ``[2**n]``."""
    index = np.arange(2**n_qubits)
    bits = np.stack([(index >> (n_qubits - 1 - qubit)) & 1 for qubit in qubits])
    return diagonal[(bits << np.arange(len(qubits) - 1, -1, -1)[:, None]).sum(axis=0)]


def _groups(qubits: set[int], n_qubits: int) -> list[tuple[int, int]]:
    found = []
    for first in range(0, n_qubits, _GROUP):
        count = min(_GROUP, n_qubits - first)
        if qubits & set(range(first, first + count)):
            found.append((first, count))
    return found


def _group_readings(states: np.ndarray, conjugate: np.ndarray, first: int, count: int) -> np.ndarray:
    """Im Tr(Pρ) for ρ = Σ ψλ† and P = X, Y, Z on ``count`` qubits from ``first``, ``[count, 3]``; ``conjugate`` is λ*."""
    shape = (2**first, 2**count, -1)
    ket, bra = states.reshape(shape), conjugate.reshape(shape)
    if len(ket) > 1 and ket.shape[2] < _LEAST_COLUMNS:
        ket, bra = (array.swapaxes(0, 1).reshape(1, 2**count, -1) for array in (ket, bra))
    reduced = np.matmul(ket, bra.swapaxes(1, 2)).sum(axis=0)
    return (reduced.ravel().view(np.float32) @ pauli_readings(count)).reshape(count, 3)
