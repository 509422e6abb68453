"""Exact expectation values and gradients of a compiled circuit over a batch of inputs.

Two routes, chosen by size. *States*: all samples are one big state vector. *Unitary*: where a part has far fewer basis states
than there are samples, the circuit runs on the 2**n basis states instead, and data meets its unitary in one matrix product;
the cost of a step then hardly depends on the number of samples. Up to a few qubits the unitary is made by dense linear algebra,
above by qsim.

A batch whose states would pass the memory limit is run in chunks; only its inputs are kept, and the backward pass runs each
chunk forward again, which costs a third more time and bounds the memory whatever the size of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cirq
import numpy as np

from ..errors import QumosError, unknown
from .batched import reading_points
from .instructions import InputRotation, Program
from .runners import BasisRunner, DenseRunner, Runner, StatesRunner
from .states import ProductStates, checked_amplitudes, checked_inputs, checked_weights, rotate_samples

Route = Literal["auto", "unitary", "states"]
MEMORY_LIMIT = 2**30  # bytes
# Measured, one thread, gradient steps of three-layer circuits (docs/engine.md). Up to this width the unitary route wins for every batch,
UNITARY_ALWAYS_QUBITS = 5
# up to this one from two samples a basis state,
UNITARY_MAX_QUBITS = 7
# and up to this one dense linear algebra makes the unitary faster than qsim.
DENSE_MAX_QUBITS = 6
# Arrays of the size of a batch's states that are alive at once at the worst, beside those kept for the backward pass: cotangents,
# qsim's copies, and temporaries. Measured, with re-uploads, input gradients and rotated observables; a test holds a run against it.
_LIVE_ARRAYS = 14
_AMPLITUDE_BYTES = 8


@dataclass(frozen=True)
class Observable:
    """A real combination of Pauli strings on ``n`` qubits.

    Attributes:
        diagonal: float32 ``[2**n]``, its diagonal terms (I and Z).
        terms: the others, each as (source index, factor) with ``(Oψ)[i] = factor[i]·ψ[source[i]]``.
    """

    diagonal: np.ndarray
    terms: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def from_cirq(cls, operator: cirq.PauliString | cirq.PauliSum, qubits: Sequence[cirq.Qid]) -> Observable:
        """The observable ``operator``; raises QumosError on a qubit outside ``qubits``, a complex coefficient or one not finite."""
        size = 2 ** len(qubits)
        place = {qubit: index for index, qubit in enumerate(qubits)}
        diagonal = np.zeros(size)
        terms = []
        for string in cirq.PauliSum.wrap(operator):
            if not np.isfinite(string.coefficient):
                raise QumosError(f"observables: {operator} has a coefficient that is not finite")
            if abs(complex(string.coefficient).imag) > 1e-9:
                raise QumosError(f"observables: {operator} is not Hermitian")
            for qubit in string.qubits:
                if qubit not in place:
                    raise QumosError(f"observables: {operator} acts on {qubit}, which is not a qubit of the circuit")
            paulis = {place[qubit]: str(pauli) for qubit, pauli in string.items()}
            source, factor = pauli_action(paulis, len(qubits))
            factor = factor * complex(string.coefficient).real
            if set(paulis.values()) <= {"Z"}:
                diagonal += factor.real
            else:
                terms.append((source, factor.astype(np.complex64)[:, None]))
        return cls(diagonal.astype(np.float32), tuple(terms))


def pauli_action(paulis: dict[int, str], n_qubits: int) -> tuple[np.ndarray, np.ndarray]:
    """The Pauli product ``paulis`` (qubit to axis) as (source, factor), each ``[2**n]``: ``(Pψ)[i] = factor[i]·ψ[source[i]]``."""
    index = np.arange(2**n_qubits)
    source, factor = index.copy(), np.ones(2**n_qubits, complex)
    for qubit, pauli in paulis.items():
        shift = n_qubits - 1 - qubit
        bit = (index >> shift) & 1
        if pauli == "Z":
            factor = factor * (1 - 2 * bit)
        else:
            source = source ^ (1 << shift)
            if pauli == "Y":
                factor = factor * np.where(bit == 0, -1j, 1j)
    return source, factor


@dataclass(frozen=True)
class EncodedBatch:
    """Inputs ready for simulation.

    Attributes:
        size: number of samples B.
        inputs: float64 ``[B, inputs]``.
        states: complex64 ``[2**n, 2**b]``: the encoded product states, padded with zero columns to a power of two on the
            states route, ``[2**n, B]`` on the unitary route; empty for a batch that is run in chunks.
        chunks: the inputs of its chunks, where it is run in chunks.
        amplitudes: whether the inputs are the states themselves.
    """

    size: int
    inputs: np.ndarray
    states: np.ndarray
    chunks: tuple[np.ndarray, ...] = ()
    amplitudes: bool = False


@dataclass(frozen=True)
class Tape:
    """What a forward pass keeps for the backward pass: weights, the states in front of every segment and what its route keeps, and the
    states at the end; nothing of a batch that is run in chunks."""

    batch: EncodedBatch
    weights: np.ndarray
    before: tuple[np.ndarray, ...] = ()
    kept: tuple[Any, ...] = ()
    final: np.ndarray | None = None

    @property
    def states(self) -> np.ndarray:
        """The states at the end, complex64 ``[2**n, B]``, of a batch that is not run in chunks."""
        assert self.final is not None
        return self.final[:, : self.batch.size]


class CircuitEngine:
    """Forward and backward passes of one program.

    Args:
        program: the compiled circuit.
        observables: what is measured at the end, at least one.
        route: ``unitary``, ``states``, or ``auto`` to choose by size per batch.
        threads: CPU threads of a qsim run; worth more than 1 only for wide circuits.
        memory_limit: bytes that the states of a pass may take.

    Raises:
        QumosError: no observable, an unknown route, no threads, or not even one sample fits into ``memory_limit``.
    """

    def __init__(
        self,
        program: Program,
        observables: Sequence[Observable],
        route: Route = "auto",
        threads: int = 1,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        if route not in ("auto", "unitary", "states"):
            raise unknown("route", route, ("auto", "unitary", "states"))
        if threads < 1:
            raise QumosError(f"threads is {threads}, at least 1 is needed")
        if not observables:
            raise QumosError("observables: at least one is needed")
        self._chunk = _samples_that_fit(program, route, memory_limit)
        self.program = program
        self.observables = tuple(observables)
        self.route = route
        self.threads = threads
        self._product_states = ProductStates(program.encoding)
        self._diagonals = np.stack([item.diagonal for item in self.observables])
        self._terms = [(row, *term) for row, item in enumerate(self.observables) for term in item.terms]
        self._laid_out: dict[int | None, tuple[Runner, ...]] = {}  # by the logarithm of the columns, None on the unitary route

    @classmethod
    def from_program(
        cls,
        program: Program,
        qubits: Sequence[cirq.Qid],
        observables: Sequence[cirq.PauliString | cirq.PauliSum],
        route: Route = "auto",
        threads: int = 1,
        memory_limit: int = MEMORY_LIMIT,
    ) -> CircuitEngine:
        """The engine of a ``program`` on ``qubits``; other arguments as for the class."""
        # Observables are vectors of 2**n; a register that is too wide should say so before it takes them.
        _samples_that_fit(program, route, memory_limit)
        return cls(program, [Observable.from_cirq(item, qubits) for item in observables], route, threads, memory_limit)

    def __getstate__(self) -> dict[str, object]:
        # qsim's objects cannot be pickled; they are laid out again when needed.
        return self.__dict__ | {"_laid_out": {}}

    def encode(self, inputs: np.ndarray) -> EncodedBatch:
        """Encodes ``inputs`` (radians, ``[B, inputs]``) into product states.

        Raises:
            QumosError: wrong shape, an empty batch, NaN or infinity.
        """
        return self._encode(checked_inputs(inputs, self.program.n_inputs), amplitudes=False)

    def encode_amplitudes(self, amplitudes: np.ndarray) -> EncodedBatch:
        """Takes ``amplitudes`` (real, ``[B, 2**n]``) as the input states of a program without inputs.

        The gradient with respect to inputs that ``backward`` returns is then the one with respect to these amplitudes, each
        taken as free; whoever normalises them differentiates that too.

        Raises:
            QumosError: wrong shape, an empty batch, rows that are not of unit length, a program with inputs.
        """
        if self.program.n_inputs:
            raise QumosError("inputs: a circuit with input symbols cannot take amplitudes")
        return self._encode(checked_amplitudes(amplitudes, self.program.n_qubits), amplitudes=True)

    def _encode(self, inputs: np.ndarray, *, amplitudes: bool) -> EncodedBatch:
        size = len(inputs)
        if size > self._chunk:
            cuts = range(self._chunk, size, self._chunk)
            return EncodedBatch(size, inputs, np.zeros((0, 0), np.complex64), tuple(np.split(inputs, cuts)), amplitudes)
        columns = size if self._uses_unitary(size) else 2 ** _log2_up(size)
        padded = np.zeros((2**self.program.n_qubits, columns), np.complex64)
        padded[:, :size] = inputs.T if amplitudes else self._product_states(inputs)
        return EncodedBatch(size, inputs, padded, amplitudes=amplitudes)

    def parts(self, batch: EncodedBatch) -> Iterator[EncodedBatch]:
        """The chunks of ``batch``, encoded one by one; ``batch`` itself if it is not run in chunks."""
        return (self._encode(chunk, amplitudes=batch.amplitudes) for chunk in batch.chunks) if batch.chunks else iter([batch])

    def forward(self, weights: np.ndarray, batch: EncodedBatch) -> tuple[np.ndarray, Tape]:
        """Expectation values float32 ``[B, observables]`` for ``weights`` ``[weights]`` in radians, and the tape.

        Raises:
            QumosError: ``weights`` of the wrong length, or not finite.
        """
        weights = checked_weights(weights, self.program.n_weights)
        if batch.chunks:
            values = [self.forward(weights, part)[0] for part in self.parts(batch)]
            return np.concatenate(values), Tape(batch, weights)
        states = batch.states
        before, kept = [], []
        for index, segment in enumerate(self._segments(batch.size)):
            if index:
                for rotation in self.program.reuploads[index - 1]:
                    states = self._reupload(states, rotation, batch)
            before.append(states)
            states, memory = segment.forward(states, weights)
            kept.append(memory)
        return self._expectations(states)[: batch.size], Tape(batch, weights, tuple(before), tuple(kept), states)

    def backward(self, tape: Tape, cotangents: np.ndarray, *, inputs: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Gradients of L = Σ ``cotangents`` · expectation values.

        Args:
            tape: of the forward pass.
            cotangents: ``[B, observables]``.
            inputs: also return ∂L/∂inputs, which needs one more run per segment.

        Returns:
            float64 ``[weights]`` and, if asked for, float64 ``[B, inputs]`` (``[B, 2**n]`` for amplitudes).
        """
        batch, program = tape.batch, self.program
        if batch.chunks:
            return self._backward_in_chunks(tape, np.asarray(cotangents), inputs)
        assert tape.final is not None
        segments = self._segments(batch.size)
        costates = self._cotangent_states(tape.final, cotangents)
        weight_gradient = np.zeros(program.n_weights)
        input_gradient = np.zeros((batch.size, program.n_inputs)) if inputs else None
        for index in reversed(range(len(segments))):
            segment = segments[index]
            carry = bool(index or inputs)
            readings, in_front = segment.backward(costates, tape.before[index], tape.kept[index], tape.weights, carry=carry)
            weight_gradient += np.bincount(segment.weights, readings * segment.scales, program.n_weights)
            if in_front is None:
                break
            costates = in_front
            if index:
                states = tape.before[index]
                for rotation in reversed(program.reuploads[index - 1]):
                    if input_gradient is not None:
                        input_gradient[:, rotation.feature] += self._input_reading(costates, states, rotation)[: batch.size]
                    states = self._reupload(states, rotation, batch, inverse=True)
                    costates = self._reupload(costates, rotation, batch, inverse=True)
        if inputs and batch.amplitudes:
            # L changes by 2·Re(λ†·dψ), and the amplitudes are the real parts of ψ.
            return weight_gradient, 2 * costates.real.T[: batch.size].astype(np.float64)
        if input_gradient is not None:
            input_gradient += self._product_states.gradient(batch.inputs, costates[:, : batch.size])
        return weight_gradient, input_gradient

    def _backward_in_chunks(self, tape: Tape, cotangents: np.ndarray, inputs: bool) -> tuple[np.ndarray, np.ndarray | None]:
        weight_gradient, input_gradients, start = np.zeros(self.program.n_weights), [], 0
        for part in self.parts(tape.batch):
            _, again = self.forward(tape.weights, part)
            slopes, input_slopes = self.backward(again, cotangents[start : start + part.size], inputs=inputs)
            weight_gradient += slopes
            input_gradients.append(input_slopes)
            start += part.size
        return weight_gradient, np.concatenate(input_gradients) if inputs else None  # type: ignore[arg-type]

    def _uses_unitary(self, size: int) -> bool:
        n_qubits = self.program.n_qubits
        if self.route != "auto":
            return self.route == "unitary"
        return n_qubits <= UNITARY_ALWAYS_QUBITS or (n_qubits <= UNITARY_MAX_QUBITS and 2 * 2**n_qubits <= size)

    def _segments(self, size: int) -> tuple[Runner, ...]:
        """The program's segments, laid out for a batch of that size."""
        n_qubits, columns = self.program.n_qubits, None if self._uses_unitary(size) else _log2_up(size)
        if columns not in self._laid_out:
            self._laid_out[columns] = tuple(
                StatesRunner(gates, n_qubits, columns, self.threads)
                if columns is not None
                else DenseRunner(gates, n_qubits)
                if n_qubits <= DENSE_MAX_QUBITS
                else BasisRunner(gates, n_qubits, self.threads)
                for gates in self.program.segments
            )
        return self._laid_out[columns]

    def _expectations(self, states: np.ndarray) -> np.ndarray:
        # Squares of real and imaginary parts side by side, added up only where few numbers are left: half the passes over the states.
        parts = states.view(np.float32)
        squares = self._diagonals @ (parts * parts)
        values = np.add(squares[:, 0::2].T, squares[:, 1::2].T, order="C")
        for row, source, factor in self._terms:
            values[:, row] += np.einsum("ib,ib->b", states.conj(), factor * states[source]).real
        return values

    def _cotangent_states(self, states: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """λ = Σ_o ∂L/∂⟨O_o⟩·O_o·ψ per sample."""
        padded = np.asarray(cotangents, np.float32).T
        if states.shape[1] > padded.shape[1]:
            padded = np.pad(padded, ((0, 0), (0, states.shape[1] - padded.shape[1])))
        costates = (self._diagonals.T @ padded) * states
        for row, source, factor in self._terms:
            costates += padded[row] * (factor * states[source])
        return costates

    def _reupload(self, states: np.ndarray, rotation: InputRotation, batch: EncodedBatch, *, inverse: bool = False) -> np.ndarray:
        low = 2 ** (self.program.n_qubits - 1 - rotation.qubit)
        shaped = states.reshape(-1, 2, low, states.shape[1])
        padded = batch.inputs
        if states.shape[1] > batch.size:
            padded = np.concatenate([padded, np.zeros((states.shape[1] - batch.size, padded.shape[1]))])
        return rotate_samples(shaped, rotation, padded, inverse=inverse).reshape(states.shape)

    def _input_reading(self, costates: np.ndarray, states: np.ndarray, rotation: InputRotation) -> np.ndarray:
        """Per sample ∂L/∂x of one input rotation: scale·Im⟨λ|P|ψ⟩ behind it."""
        source, factor = pauli_action({rotation.qubit: rotation.axis}, self.program.n_qubits)
        turned = factor.astype(np.complex64)[:, None] * states[source]
        return rotation.scale * np.einsum("ib,ib->b", costates.conj(), turned).imag


def _samples_that_fit(program: Program, route: Route, memory_limit: int) -> int:
    """How many samples fit into ``memory_limit`` at once, a power of two."""
    n_qubits = program.n_qubits
    kept = sum(1 + reading_points(gates, n_qubits) for gates in program.segments)
    per_sample = (_LIVE_ARRAYS + kept) * _AMPLITUDE_BYTES * 2**n_qubits
    # The unitary itself is a batch of 2**n samples; where the route is chosen by size it takes a few MiB at most.
    basis = per_sample * 2**n_qubits if route == "unitary" and n_qubits > UNITARY_MAX_QUBITS else 0
    if basis + per_sample > memory_limit:
        route_taken = " on the route 'unitary'" if basis else ""
        raise QumosError(
            f"qubits: a register of {n_qubits} needs {(basis + per_sample) / 2**20:,.0f} MiB a sample{route_taken}, "
            f"memory_limit is {memory_limit / 2**20:,.0f} MiB"
        )
    return 2 ** (int((memory_limit - basis) // per_sample).bit_length() - 1)


def _log2_up(size: int) -> int:
    return max(0, (size - 1).bit_length())
