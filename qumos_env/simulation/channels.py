"""Noise as a circuit: what is added behind gates, and the translation of a noisy circuit to a doubled register.

A density matrix of n qubits is a vector of 2n: index (row bits, column bits). A unitary U acts as U on the row qubits and as its
complex conjugate on the column qubits; a channel with Kraus operators K as the matrix Σ K ⊗ K* on both (Gilchrist, Terno, Wood,
"Vectorization of quantum operations and its use", arXiv:0911.2539). So a noisy circuit becomes an ordinary program whose fixed
gates need not be unitary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import cirq
import numpy as np

from ..errors import QumosError
from .instructions import Fixed, InputRotation, Instruction, Program, Rotation, assemble
from .program import check_register, compile_circuit, gate_name, natural_symbols, operation_instructions

_TRACE_TOLERANCE = 1e-6
_MAX_CHANNEL_QUBITS = 2


def _check_probability(name: str, value: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise QumosError(f"{name} is {value}, a probability from 0 to 1 is needed")


@dataclass(frozen=True)
class ReadoutError:
    """Probabilities that the measurement of one qubit reports the other outcome; errors of different qubits are independent.

    Raises:
        QumosError: a value that is no probability.
    """

    zero_as_one: float = 0.0
    one_as_zero: float = 0.0

    def __post_init__(self) -> None:
        _check_probability("zero_as_one", self.zero_as_one)
        _check_probability("one_as_zero", self.one_as_zero)

    @property
    def confusion(self) -> np.ndarray:
        """float64 ``[2, 2]``: row the true outcome, column the reported one."""
        return np.array([[1 - self.zero_as_one, self.zero_as_one], [self.one_as_zero, 1 - self.one_as_zero]])


@dataclass(frozen=True)
class NoiseSpec:
    """Gate noise by rates: the same channels behind every gate of the circuit, encoding gates included.

    Attributes:
        one_qubit: probability of a random Pauli error (X, Y, Z alike) behind a one-qubit gate, as in ``cirq.depolarize``.
        two_qubit: the same behind a two-qubit gate, for the 15 products of Paulis.
        amplitude_damping: probability of decay from |1⟩ to |0⟩, on each qubit of a gate.
        phase_damping: probability of losing the phase, on each qubit of a gate, as in ``cirq.phase_damp``.
        readout: of every qubit.

    Raises:
        QumosError: a value that is no probability.
    """

    one_qubit: float = 0.0
    two_qubit: float = 0.0
    amplitude_damping: float = 0.0
    phase_damping: float = 0.0
    readout: ReadoutError = field(default_factory=ReadoutError)

    def __post_init__(self) -> None:
        for name in ("one_qubit", "two_qubit", "amplitude_damping", "phase_damping"):
            _check_probability(name, getattr(self, name))

    def noisy(self, circuit: cirq.AbstractCircuit) -> cirq.Circuit:
        """``circuit`` with channels behind its gates; channels that it already holds stay as they are.

        Raises:
            QumosError: a gate on more than two qubits, for which there is no rate.
        """
        return cirq.Circuit([op, *self.behind(op)] for op in circuit.all_operations())

    def behind(self, op: cirq.Operation) -> Iterator[cirq.Operation]:
        """The channels behind one operation; none behind a channel. Raises QumosError as ``noisy``."""
        if not op.qubits or _is_channel(op):
            return
        if len(op.qubits) > 2:
            raise QumosError(f"noise: gate {gate_name(op)} acts on {len(op.qubits)} qubits, there are rates for one and two")
        rate = self.one_qubit if len(op.qubits) == 1 else self.two_qubit
        if rate:
            yield cirq.depolarize(rate, n_qubits=len(op.qubits))(*op.qubits)
        if self.amplitude_damping:
            yield from cirq.amplitude_damp(self.amplitude_damping).on_each(*op.qubits)
        if self.phase_damping:
            yield from cirq.phase_damp(self.phase_damping).on_each(*op.qubits)


Noise = NoiseSpec | cirq.NoiseModel


@dataclass(frozen=True)
class Channel:
    """A trace-preserving map on ``qubits``; ``matrix`` complex128 ``[4**k, 4**k]`` acts on (row qubits, column qubits)."""

    qubits: tuple[int, ...]
    matrix: np.ndarray


LocalStep = Fixed | InputRotation | Channel


@dataclass(frozen=True)
class NoisyProgram:
    """A compiled noisy circuit.

    Attributes:
        n_qubits: width; qubit 0 is the most significant bit of a state index.
        n_inputs, n_weights: number of inputs per sample and of shared weights.
        instructions: in circuit order.
        confusion: of the readout, float64 ``[n_qubits, 2, 2]``: row the true outcome, column the reported one.
    """

    n_qubits: int
    n_inputs: int
    n_weights: int
    instructions: tuple[Instruction | Channel, ...]
    confusion: np.ndarray

    @property
    def encoding(self) -> tuple[tuple[LocalStep, ...], ...]:
        """Per qubit the leading one-qubit steps, up to the last input rotation among them: they make a product state."""
        return self._split()[0]

    def doubled(self) -> Program:
        """What follows the encoding, on ``2·n_qubits`` qubits whose state is the density matrix (row qubits first)."""
        pieces = [piece for item in self._split()[1] for piece in _doubled(item, self.n_qubits)]
        return assemble(2 * self.n_qubits, self.n_inputs, self.n_weights, pieces)

    def _split(self) -> tuple[tuple[tuple[LocalStep, ...], ...], list[Instruction | Channel]]:
        ends = [0] * self.n_qubits
        touched = [False] * self.n_qubits
        for at, item in enumerate(self.instructions):
            if isinstance(item, InputRotation):
                if not touched[item.qubit]:
                    ends[item.qubit] = at + 1
            elif isinstance(item, Rotation) or len(item.qubits) > 1:
                for qubit in item.qubits:
                    touched[qubit] = True
        encoding: list[list[LocalStep]] = [[] for _ in range(self.n_qubits)]
        rest: list[Instruction | Channel] = []
        for at, item in enumerate(self.instructions):
            qubit = item.qubit if isinstance(item, InputRotation) else item.qubits[0]
            if not isinstance(item, Rotation) and at < ends[qubit]:
                encoding[qubit].append(item)
            else:
                rest.append(item)
        return tuple(map(tuple, encoding)), rest


def _doubled(item: Instruction | Channel, n_qubits: int) -> list[Instruction]:
    if isinstance(item, Channel):
        columns = tuple(qubit + n_qubits for qubit in item.qubits)
        return [Fixed("matrix", item.qubits + columns, item.matrix)]
    if isinstance(item, InputRotation):
        sign = _conjugate_sign(item.axis)
        return [item, replace(item, qubit=item.qubit + n_qubits, scale=sign * item.scale, offset=sign * item.offset)]
    columns = tuple(qubit + n_qubits for qubit in item.qubits)
    if isinstance(item, Rotation):
        sign = _conjugate_sign(item.axes)
        return [item, replace(item, qubits=columns, scale=sign * item.scale, offset=sign * item.offset)]
    # The native fixed gates are real.
    return [item, replace(item, qubits=columns, matrix=None if item.matrix is None else item.matrix.conj())]


def _conjugate_sign(axes: str) -> int:
    """exp(-iθP/2)* = exp(-i(±θ)P/2): minus for a real P, plus for one with an odd number of Y."""
    return 1 if axes.count("Y") % 2 else -1


def compile_noisy(
    circuit: cirq.AbstractCircuit,
    qubits: Sequence[cirq.Qid],
    input_symbols: Sequence[str] = (),
    weight_symbols: Sequence[str] | None = None,
    noise: Noise | None = None,
    readout: ReadoutError | Sequence[ReadoutError] | None = None,
) -> NoisyProgram:
    """Compiles ``circuit`` with ``noise`` added.

    Args:
        circuit: gates as for ``compile_circuit``, and any Cirq channels on one or two qubits.
        qubits: the register, most significant first; a ``cirq.NoiseModel`` sees them all as the system's qubits.
        input_symbols, weight_symbols: as for ``compile_circuit``.
        noise: what is added to the circuit's gates.
        readout: one for all qubits, or one per qubit in register order; default that of a ``NoiseSpec``, else none.

    Raises:
        QumosError: all that ``compile_circuit`` refuses; a matrix that is not unitary, a measurement, a channel that does not
            preserve the trace or acts on more than two qubits; readout errors for another number of qubits.
    """
    check_register(circuit, qubits)
    noisy = _with_noise(circuit, qubits, noise)
    check_register(noisy, qubits)
    if weight_symbols is None:
        weight_symbols = [name for name in natural_symbols(noisy) if name not in set(input_symbols)]
    for op in noisy.all_operations():
        _check_operation(op)
    # The gates alone, for the checks of symbols and gates.
    compile_circuit(cirq.Circuit(op for op in noisy.all_operations() if not _is_channel(op)), qubits, input_symbols, weight_symbols)
    place = {qubit: index for index, qubit in enumerate(qubits)}
    inputs = {name: index for index, name in enumerate(input_symbols)}
    weights = {name: index for index, name in enumerate(weight_symbols)}
    instructions: list[Instruction | Channel] = []
    for op in noisy.all_operations():
        if _is_channel(op):
            _append_channel(instructions, _channel(op, place))
        else:
            instructions.extend(operation_instructions(op, place, inputs, weights))
    return NoisyProgram(len(place), len(inputs), len(weights), tuple(instructions), _confusion(noise, readout, len(place)))


def _with_noise(circuit: cirq.AbstractCircuit, qubits: Sequence[cirq.Qid], noise: Noise | None) -> cirq.AbstractCircuit:
    if noise is None:
        return circuit
    if isinstance(noise, NoiseSpec):
        return noise.noisy(circuit)
    if isinstance(noise, cirq.NoiseModel):
        return cirq.Circuit(cirq.Circuit(tree) for tree in noise.noisy_moments(list(circuit.moments), sorted(qubits)))
    raise QumosError(f"noise: a NoiseSpec or a cirq.NoiseModel is needed, got {type(noise).__name__}")


def _confusion(noise: Noise | None, readout: ReadoutError | Sequence[ReadoutError] | None, n_qubits: int) -> np.ndarray:
    if readout is None:
        readout = noise.readout if isinstance(noise, NoiseSpec) else ReadoutError()
    errors = [readout] * n_qubits if isinstance(readout, ReadoutError) else list(readout)
    if len(errors) != n_qubits:
        raise QumosError(f"readout: {n_qubits} errors needed, one per qubit, got {len(errors)}")
    return np.stack([error.confusion for error in errors])


def has_channels(circuit: cirq.AbstractCircuit) -> bool:
    """Whether some operation is not unitary."""
    return any(map(_is_channel, circuit.all_operations()))


def _is_channel(op: cirq.Operation) -> bool:
    return not cirq.is_parameterized(op) and not cirq.has_unitary(op)


def _check_operation(op: cirq.Operation) -> None:
    if cirq.is_parameterized(op):
        return
    if cirq.is_measurement(op):
        raise QumosError(f"gate {gate_name(op)} is a measurement; all qubits are measured at the end, without being told")
    if not _is_channel(op):
        return
    if not cirq.has_kraus(op):
        raise QumosError(f"gate {gate_name(op)} is neither unitary nor a channel")
    if len(op.qubits) > _MAX_CHANNEL_QUBITS:
        raise QumosError(f"channel {gate_name(op)} acts on {len(op.qubits)} qubits, channels may act on {_MAX_CHANNEL_QUBITS}")
    kraus = np.stack(cirq.kraus(op))
    total = np.einsum("kba,kbc->ac", kraus.conj(), kraus)
    # Written so that NaN fails.
    if not np.abs(total - np.eye(len(total))).max() <= _TRACE_TOLERANCE:
        raise QumosError(f"channel {gate_name(op)} does not preserve the trace: its Kraus operators must satisfy Σ K†K = 1")


def _channel(op: cirq.Operation, place: Mapping[cirq.Qid, int]) -> Channel:
    return Channel(tuple(place[qubit] for qubit in op.qubits), superoperator(cirq.kraus(op)))


def superoperator(kraus: Sequence[np.ndarray]) -> np.ndarray:
    """Σ K ⊗ K*, complex128 ``[4**k, 4**k]``, which acts on (row qubits, column qubits) of a density matrix."""
    size = len(kraus[0]) ** 2
    return sum((np.kron(matrix, matrix.conj()) for matrix in kraus), np.zeros((size, size), complex))


def _append_channel(instructions: list[Instruction | Channel], channel: Channel) -> None:
    """Adds ``channel``, multiplied into one on the same qubits if nothing else has touched these since."""
    for at in reversed(range(len(instructions))):
        other = instructions[at]
        touched = (other.qubit,) if isinstance(other, InputRotation) else other.qubits
        if isinstance(other, Channel) and touched == channel.qubits:
            instructions[at] = Channel(touched, channel.matrix @ other.matrix)
            return
        if set(touched) & set(channel.qubits):
            break
    instructions.append(channel)
