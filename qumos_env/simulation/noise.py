"""Exact expectation values, outcome probabilities and gradients of noisy circuits over a batch of inputs.

The density matrix is the state of a doubled register (see ``channels``), so a batch is one qsim run. Two routes, chosen by size.
*Samples*: the density matrices of all samples run forward. *Observables* (Heisenberg picture): the observables run backward
instead, and meet the input states at the start; with no re-uploaded inputs and fewer observables than samples this is cheaper,
and its cost hardly depends on the number of samples.

Inputs that only one-qubit gates and channels precede are part of the initial product state, so that H, noise, RZ encodes like RY;
others are re-uploads. (As a re-upload, that encoding of 100 samples on 6 qubits took 62 ms forward and 99 ms for a gradient, now 3 and
6 ms; two layers of RY and a chain of CZ, one thread.)

Gradients are adjoint, in either route: with ρ and Λ = Σ ∂L/∂⟨O⟩·O at a gate exp(-iθP/2), ∂L/∂θ = Im Tr(PρΛ). Channels have no
inverse, so ρ is kept at every reading point on the way forward, and Λ is carried back to it; at the start it meets the input states,
for the gradient with respect to the inputs. Measured against parameter shift with all shifted copies in one run (of which only the bare
run was counted, without the shifts; three layers of RY, RZ and a CZ ring, depolarising noise, batch 16, one thread): at 4 qubits 3.7
times faster by samples and 1.3 times by observables, where qsim's set-up dominates both; at 6 qubits 11 times by observables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cirq
import numpy as np

from ..errors import QumosError, unknown
from .adjoint import MEMORY_LIMIT, Observable, pauli_action
from .channels import Noise, NoisyProgram, ReadoutError, compile_noisy
from .encodings import AmplitudeEncoding, Encoding, ProductEncoding
from .instructions import Fixed, Rotation
from .qsim_backend import Segment
from .sampling import Measurement, eigenbasis, measurements, mixed_probabilities, per_qubit
from .states import checked_weights, rotate_samples

NoisyRoute = Literal["auto", "samples", "observables"]
_AMPLITUDE_BYTES = 8
# Arrays of the size of the density matrices that are alive at once at the worst, beside those kept at the reading points: in and out
# of qsim, temporaries of rotations, and those of the chunk before. Measured, with re-uploads and rotated bases.
_LIVE_ARRAYS = 8


@dataclass(frozen=True)
class _Piece:
    """Gates in front of which, at one point, all rotations among them can be read.

    Attributes:
        gates: on the doubled register.
        weights, scales: of the rotations (those of the row qubits; their conjugates are the same gates).
        sources, factors: of their generators, ``[rotations, 2**n]``: ``(Pψ)[i] = factor[i]·ψ[source[i]]``.
    """

    gates: tuple[Fixed | Rotation, ...]
    weights: np.ndarray
    scales: np.ndarray
    sources: np.ndarray
    factors: np.ndarray

    def readings(self, states: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """Im Tr(PρΛ) of every rotation, summed over columns; ``states`` ρ and ``effects`` Λ ``[4**n, C]`` in front of the piece."""
        size = self.sources.shape[1]
        # Λ is Hermitian: its conjugated row is its column.
        product = states.reshape(size, -1) @ effects.reshape(size, -1).conj().T
        return np.sum(self.factors * product[self.sources, np.arange(size)], axis=1).imag


class NoisyEngine:
    """Forward and backward passes of one noisy program.

    Args:
        program: the compiled circuit.
        observables: what is measured at the end, at least one. A Pauli string on several qubits, and X and Y, are measured as on
            hardware: rotated to Z without error, then read out with the program's readout error.
        route: ``samples``, ``observables`` (only without re-uploaded inputs), or ``auto`` to choose by size per batch.
        threads: CPU threads of a qsim run.
        memory_limit: bytes that the states of a pass may take; larger batches run in chunks.
        amplitudes: inputs are ``[B, 2**n]`` real amplitudes of the initial state, of unit length, for a program without inputs; the
            gradient with respect to them takes each as free.

    Raises:
        QumosError: no observable, or one for another number of qubits; not even one sample fits into ``memory_limit``; a route that is
            not possible; amplitudes for a program with inputs.
    """

    def __init__(
        self,
        program: NoisyProgram,
        observables: Sequence[Observable],
        route: NoisyRoute = "auto",
        threads: int = 1,
        memory_limit: int = MEMORY_LIMIT,
        amplitudes: bool = False,
    ) -> None:
        if not observables:
            raise QumosError("observables: at least one is needed")
        if route not in ("auto", "samples", "observables"):
            raise unknown("route of a noisy circuit", route, ("auto", "samples", "observables"))
        if amplitudes and program.n_inputs:
            raise QumosError("inputs: a circuit with input symbols cannot take amplitudes")
        if threads < 1:
            raise QumosError(f"threads is {threads}, at least 1 is needed")
        for item in observables:
            if len(item.diagonal) != 2**program.n_qubits:
                width = len(item.diagonal).bit_length() - 1
                raise QumosError(f"observables: one is for {width} qubits, the circuit has {program.n_qubits}")
        self.n_qubits = program.n_qubits
        self.observables = tuple(observables)
        self.route = route
        self.threads = threads
        self.memory_limit = memory_limit
        self.amplitudes = amplitudes
        self._chunk(_LIVE_ARRAYS)
        self.measurements = measurements(self.observables, self.n_qubits)
        self._set_program(program)
        self._effects = _effects(self.measurements, program.confusion, len(self.observables))
        self._support = np.flatnonzero(self._effects.any(axis=1))
        if route == "observables" and len(self._doubled.segments) > 1:
            raise QumosError("route: inputs that are re-uploaded in mid-circuit need the route 'samples'")
        if route == "observables" and not self._observables_fit():
            raise QumosError("route: memory_limit is too small for all observables at once, which the route 'observables' needs")

    @classmethod
    def from_circuit(
        cls,
        circuit: cirq.AbstractCircuit,
        qubits: Sequence[cirq.Qid],
        observables: Sequence[cirq.PauliString | cirq.PauliSum],
        input_symbols: Sequence[str] = (),
        weight_symbols: Sequence[str] | None = None,
        *,
        noise: Noise | None = None,
        readout: ReadoutError | Sequence[ReadoutError] | None = None,
        route: NoisyRoute = "auto",
        threads: int = 1,
        memory_limit: int = MEMORY_LIMIT,
        amplitudes: bool = False,
    ) -> NoisyEngine:
        """The engine of ``circuit`` with ``noise`` added; arguments as for ``compile_noisy`` and the class."""
        program = compile_noisy(circuit, qubits, input_symbols, weight_symbols, noise, readout)
        return cls.from_program(program, qubits, observables, route, threads, memory_limit, amplitudes)

    @classmethod
    def from_program(
        cls,
        program: NoisyProgram,
        qubits: Sequence[cirq.Qid],
        observables: Sequence[cirq.PauliString | cirq.PauliSum],
        route: NoisyRoute = "auto",
        threads: int = 1,
        memory_limit: int = MEMORY_LIMIT,
        amplitudes: bool = False,
    ) -> NoisyEngine:
        """The engine of a ``program`` on ``qubits``; arguments as for the class."""
        # Observables are vectors of 2**n; a register that is too wide should say so before it takes them.
        _samples_that_fit(program.n_qubits, _LIVE_ARRAYS, len(observables), memory_limit)
        return cls(program, [Observable.from_cirq(item, qubits) for item in observables], route, threads, memory_limit, amplitudes)

    def __getstate__(self) -> dict[str, object]:
        # qsim's objects cannot be pickled; they are laid out again when needed.
        return self.__dict__ | {"_laid_out": {}}

    def with_program(self, program: NoisyProgram) -> NoisyEngine:
        """An engine with the same settings for another program on the same qubits."""
        return NoisyEngine(program, self.observables, self.route, self.threads, self.memory_limit, self.amplitudes)

    def forward(self, weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """Expectation values, readout errors included.

        Args:
            weights: ``[weights]`` in radians.
            inputs: ``[B, inputs]`` in radians, or amplitudes ``[B, 2**n]``.

        Returns:
            float32 ``[B, observables]``.

        Raises:
            QumosError: wrong shapes, an empty batch, NaN or infinity.
        """
        weights, inputs = checked_weights(weights, self.program.n_weights), self.checked_inputs(inputs)
        if self._by_observables(len(inputs)):
            return self._values_by_observables(weights, inputs)
        effects = self._effects[self._support].conj().T
        return np.concatenate([(effects @ states[self._support]).real.T for states in self._final(weights, inputs)])

    def probabilities(self, weights: np.ndarray, inputs: np.ndarray, basis: str | None = None) -> np.ndarray:
        """Outcome probabilities after readout errors, float64 ``[B, 2**n]``, most significant qubit first.

        Args:
            weights, inputs: as for ``forward``.
            basis: the Pauli measured on each qubit, for instance ``"ZXY"``; default Z on all.

        Raises:
            QumosError: as for ``forward``, and a basis that is not one of X, Y, Z per qubit.
        """
        return self.probabilities_by_basis(weights, inputs, ["Z" * self.n_qubits if basis is None else basis])[0]

    def probabilities_by_basis(self, weights: np.ndarray, inputs: np.ndarray, bases: Sequence[str]) -> list[np.ndarray]:
        """As ``probabilities``, for every one of ``bases`` from the same run."""
        for basis in bases:
            if len(basis) != self.n_qubits or set(basis) - set("XYZ"):
                raise QumosError(f"basis: one of X, Y, Z for each of {self.n_qubits} qubits needed, got {basis!r}")
        weights, inputs = checked_weights(weights, self.program.n_weights), self.checked_inputs(inputs)
        parts = [[mixed_probabilities(states, basis) for basis in bases] for states in self._final(weights, inputs)]
        confusion = [matrix.T for matrix in self.program.confusion]
        return [per_qubit(confusion, np.concatenate(chunks).T.astype(np.float64)).T for chunks in zip(*parts, strict=True)]

    def gradient(self, weights: np.ndarray, inputs: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """∂L/∂weights alone, see ``backward``."""
        return self.backward(weights, inputs, cotangents)[0]

    def backward(
        self, weights: np.ndarray, batch: np.ndarray, cotangents: np.ndarray, *, inputs: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Gradients of L = Σ ``cotangents`` · expectation values, by the adjoint method.

        Args:
            weights: as for ``forward``.
            batch: the inputs, as for ``forward``.
            cotangents: ``[B, observables]``.
            inputs: also return ∂L/∂inputs.

        Returns:
            float64 ``[weights]`` and, if asked for, float64 of the shape of the inputs.

        Raises:
            QumosError: as for ``forward``, and cotangents of another shape or not finite.
        """
        weights, batch = checked_weights(weights, self.program.n_weights), self.checked_inputs(batch)
        cotangents = np.asarray(cotangents, np.float32)
        if cotangents.shape != (len(batch), len(self.observables)):
            raise QumosError(f"cotangents: shape {[len(batch), len(self.observables)]} needed, got {list(cotangents.shape)}")
        if not np.isfinite(cotangents).all():
            raise QumosError("cotangents: a value is not finite")
        by_input = np.zeros(batch.shape) if inputs else None
        if self._by_observables(len(batch)):
            slopes, effects = self._sweep(weights, self._weighted_states(batch, cotangents), _padded(self._effects), batch[:0])
            if by_input is not None:
                effects = effects[:, : len(self.observables)]
                for part in self._slices(len(batch), _LIVE_ARRAYS):
                    by_input[part] = self._encoding.gradient(batch[part], effects @ cotangents[part].T)
            return slopes, by_input
        slopes = np.zeros(self.program.n_weights)
        for part in self._slices(len(batch), _LIVE_ARRAYS + self._n_pieces):
            rows, effects = batch[part], self._effects @ cotangents[part].T
            into = None if by_input is None else by_input[part]
            change, effects = self._sweep(weights, _padded(self._encoding.densities(rows)), _padded(effects), rows, into)
            slopes += change
            if into is not None:
                into += self._encoding.gradient(rows, effects[:, : len(rows)])
        return slopes, by_input

    def checked_inputs(self, inputs: np.ndarray) -> np.ndarray:
        """``inputs`` as float64 ``[B, inputs]``; raises QumosError on another shape, an empty batch, NaN or infinity."""
        return self._encoding.checked(inputs)

    # Set-up

    def _set_program(self, program: NoisyProgram) -> None:
        self.program = program
        self._encoding: Encoding = (
            AmplitudeEncoding(self.n_qubits) if self.amplitudes else ProductEncoding(program.encoding, program.n_inputs)
        )
        self._doubled = program.doubled()
        self._pieces = tuple(_pieces(gates, self.n_qubits) for gates in self._doubled.segments)
        self._n_pieces = sum(len(pieces) for pieces in self._pieces)
        self._laid_out: dict[tuple[int, int, int], Segment] = {}

    def _segment(self, index: int, piece: int, columns: int) -> Segment:
        """Segment ``index``, or one of its pieces (-1: the whole), for so many columns."""
        key = (index, piece, columns)
        if key not in self._laid_out:
            gates = self._doubled.segments[index] if piece < 0 else self._pieces[index][piece].gates
            self._laid_out[key] = Segment(gates, 2 * self.n_qubits, columns.bit_length() - 1, self.threads)
        return self._laid_out[key]

    def _chunk(self, arrays: int) -> int:
        """How many samples fit into the memory limit, a power of two."""
        return _samples_that_fit(self.n_qubits, arrays, len(self.observables), self.memory_limit)

    def _slices(self, size: int, arrays: int) -> Iterator[slice]:
        """A batch of ``size`` in chunks that fit into the memory limit with so many arrays."""
        chunk = self._chunk(arrays)
        return (slice(start, start + chunk) for start in range(0, size, chunk))

    # Samples

    def _final(self, weights: np.ndarray, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """Density matrices ``[4**n, samples]`` at the end, chunk by chunk."""
        for rows in self._slices(len(inputs), _LIVE_ARRAYS):
            part = inputs[rows]
            states = _padded(self._encoding.densities(part))
            for index in range(len(self._doubled.segments)):
                states = self._segment(index, -1, states.shape[1]).run(self._reupload(states, index, part), weights)
            yield states[:, : len(part)]

    def _reupload(self, states: np.ndarray, index: int, inputs: np.ndarray, *, inverse: bool = False) -> np.ndarray:
        """Applies the per-sample rotations in front of segment ``index``."""
        if index == 0:
            return states
        columns = states.shape[1]
        padded = np.concatenate([inputs, np.zeros((columns - len(inputs), inputs.shape[1]))])
        for rotation in self._doubled.reuploads[index - 1]:
            shape = (2**rotation.qubit, 2, -1, columns)
            states = rotate_samples(states.reshape(shape), rotation, padded, inverse=inverse).reshape(-1, columns)
        return states

    def _sweep(
        self, weights: np.ndarray, states: np.ndarray, effects: np.ndarray, inputs: np.ndarray, by_input: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """∂L/∂weights for ``states`` ρ at the start and ``effects`` Λ at the end, both ``[4**n, C]``, and Λ at the start.

        Adds to ``by_input`` ``[B, inputs]`` what re-uploaded inputs contribute to ∂L/∂inputs.
        """
        columns = states.shape[1]
        kept: list[list[np.ndarray]] = []
        for index, pieces in enumerate(self._pieces):
            states = self._reupload(states, index, inputs)
            kept.append([])
            for number in range(len(pieces)):
                kept[-1].append(states)
                if (index, number) != (len(self._pieces) - 1, len(pieces) - 1):
                    states = self._segment(index, number, columns).run(states, weights)
            if not pieces:
                kept[-1].append(states)
        slopes = np.zeros(self.program.n_weights)
        for index in reversed(range(len(self._pieces))):
            for number in reversed(range(len(self._pieces[index]))):
                piece = self._pieces[index][number]
                # qsim's inverse of a segment is its adjoint, for channels too: the Heisenberg picture.
                effects = self._segment(index, number, columns).run(effects, weights, inverse=True)
                np.add.at(slopes, piece.weights, piece.scales * piece.readings(kept[index][number], effects))
                if number:
                    del kept[index][number]
            if index:
                if by_input is not None:
                    self._add_reupload_gradient(index, kept[index][0], effects, by_input)
                effects = self._reupload(effects, index, inputs, inverse=True)
            del kept[index]
        return slopes, effects

    def _add_reupload_gradient(self, index: int, states: np.ndarray, effects: np.ndarray, by_input: np.ndarray) -> None:
        """∂L/∂x = scale·Im Tr(PρΛ) for the rotations in front of segment ``index``, with ρ and Λ behind them."""
        for rotation in self._doubled.reuploads[index - 1]:
            # The column qubits hold the conjugates of the same gates.
            if rotation.qubit < self.n_qubits:
                source, factor = pauli_action({rotation.qubit: rotation.axis}, 2 * self.n_qubits)
                turned = factor.astype(np.complex64)[:, None] * states[source]
                reading = np.einsum("kb,kb->b", effects.conj(), turned).imag[: len(by_input)]
                by_input[:, rotation.feature] += rotation.scale * reading

    # Observables

    def _by_observables(self, size: int) -> bool:
        if self.route != "auto":
            return self.route == "observables"
        return len(self._doubled.segments) == 1 and _columns(len(self.observables)) <= size and self._observables_fit()

    def _observables_fit(self) -> bool:
        return _columns(len(self.observables)) <= self._chunk(_LIVE_ARRAYS + self._n_pieces)

    def _chunks_of_vectors(self, inputs: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """The encoded inputs as state vectors ``[2**n, samples]``."""
        chunk = max(1, self.memory_limit // (2 * _AMPLITUDE_BYTES * 2**self.n_qubits * (len(self.observables) + 2)))
        for start in range(0, len(inputs), chunk):
            part = slice(start, start + chunk)
            yield part, self._encoding.vectors(inputs[part])

    def _values_by_observables(self, weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        count, size = len(self.observables), 2**self.n_qubits
        effects = _padded(self._effects)
        effects = self._segment(0, -1, effects.shape[1]).run(effects, weights, inverse=True)
        operators = np.ascontiguousarray(effects[:, :count].T)
        values = np.empty((len(inputs), count), np.float32)
        if not self._encoding.pure:
            for part in self._slices(len(inputs), _LIVE_ARRAYS):
                values[part] = (operators.conj() @ self._encoding.densities(inputs[part])).real.T
            return values
        operators = operators.reshape(count * size, size)
        for part, vectors in self._chunks_of_vectors(inputs):
            turned = (operators @ vectors).reshape(count, size, -1)
            values[part] = np.einsum("ib,oib->bo", vectors.conj(), turned).real
        return values

    def _weighted_states(self, inputs: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """Per observable Σ_b ∂L/∂⟨O⟩_b·ρ_b, ``[4**n, C]``."""
        count, size = len(self.observables), 2**self.n_qubits
        if not self._encoding.pure:
            parts = self._slices(len(inputs), _LIVE_ARRAYS)
            return _padded(sum(self._encoding.densities(inputs[part]) @ cotangents[part] for part in parts))
        total = np.zeros((count, size, size), np.complex64)
        for part, vectors in self._chunks_of_vectors(inputs):
            total += (cotangents[part].T[:, None] * vectors) @ vectors.conj().T
        return _padded(total.reshape(count, -1).T)


def _samples_that_fit(n_qubits: int, arrays: int, n_observables: int, memory_limit: int) -> int:
    """How many samples of ``arrays`` density matrices each fit into ``memory_limit`` beside the observables, a power of two."""
    matrix = _AMPLITUDE_BYTES * 4**n_qubits
    # Observables are kept in single precision, and made in double.
    observables = 3 * n_observables * matrix
    if observables + arrays * matrix > memory_limit:
        raise QumosError(
            f"qubits: a noisy register of {n_qubits} needs {(observables + arrays * matrix) / 2**20:,.0f} MiB for one sample, "
            f"memory_limit is {memory_limit / 2**20:,.0f} MiB"
        )
    return 2 ** (int((memory_limit - observables) // (arrays * matrix)).bit_length() - 1)


def _columns(count: int) -> int:
    return 2 ** max(0, (count - 1).bit_length())


def _padded(columns: np.ndarray) -> np.ndarray:
    """complex64 ``columns`` ``[rows, C]`` with zero columns up to a power of two."""
    padded = np.zeros((len(columns), _columns(columns.shape[1])), np.complex64)
    padded[:, : columns.shape[1]] = columns
    return padded


def _effects(ways: Sequence[Measurement], confusion: np.ndarray, count: int) -> np.ndarray:
    """The observables as operators, readout errors included: complex64 ``[4**n, observables]``."""
    size = 2 ** len(confusion)
    operators = np.zeros((count, size, size), complex)
    for way in ways:
        # Row t of the confusion holds what outcome t is reported as: its mean value is the row's.
        values = per_qubit(list(confusion), way.values.T).T
        if set(way.basis) == {"Z"}:
            operators[:, np.arange(size), np.arange(size)] += values
        else:
            rotation = per_qubit(eigenbasis(way.basis), np.eye(size))
            operators += (rotation.conj().T * values[:, None]) @ rotation
    return operators.reshape(count, -1).T.astype(np.complex64)


def _pieces(gates: Sequence[Fixed | Rotation], n_qubits: int) -> tuple[_Piece, ...]:
    """``gates`` in as few pieces as the order on shared qubits allows, such that no gate precedes a rotation on its qubits."""
    groups: list[list[Fixed | Rotation]] = []
    piece, untouched = [0] * 2 * n_qubits, [True] * 2 * n_qubits
    for gate in gates:
        at = max(piece[qubit] for qubit in gate.qubits)
        if isinstance(gate, Rotation) and any(piece[qubit] == at and not untouched[qubit] for qubit in gate.qubits):
            at += 1
        for qubit in gate.qubits:
            piece[qubit], untouched[qubit] = at, False
        groups.extend([] for _ in range(at + 1 - len(groups)))
        groups[at].append(gate)
    return tuple(_piece(group, n_qubits) for group in groups)


def _piece(gates: Sequence[Fixed | Rotation], n_qubits: int) -> _Piece:
    rotations = [gate for gate in gates if isinstance(gate, Rotation) and max(gate.qubits) < n_qubits]
    generators = [pauli_action(dict(zip(gate.qubits, gate.axes, strict=True)), n_qubits) for gate in rotations]
    shape = (len(rotations), 2**n_qubits)
    return _Piece(
        tuple(gates),
        np.array([gate.weight for gate in rotations], np.intp),
        np.array([gate.scale for gate in rotations]),
        np.array([source for source, _ in generators], np.intp).reshape(shape),
        np.array([factor for _, factor in generators], np.complex64).reshape(shape),
    )
