"""A circuit gate by gate in native gates: runs of gates on a pair of qubits together, and rotations merged along each qubit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cirq
import numpy as np

from ..errors import QumosError
from .interaction import class_of
from .profile import NativeGates
from .synthesis import PairCircuit, native_count, phased_xz, synthesise, synthesise_gate


def rewritten(circuit: cirq.AbstractCircuit, native: NativeGates) -> list[cirq.Operation]:
    """``circuit`` in PhasedXZ gates and the native two-qubit gate, in order.

    A run of gates on a pair is put together anew only where that takes fewer native gates; so what does not depend on the values of its
    angles is written the same for all of them.

    Args:
        circuit: unitary gates on one and two qubits, and rotations of one qubit about X, Y or Z with a symbol.
        native: the two-qubit gate.

    Raises:
        QumosError: another gate.
    """
    written = _Written()
    for run in pair_runs(circuit, apart=cirq.is_parameterized):
        if cirq.is_parameterized(run[0]):
            written.append(_with_native_symbol(run[0]))
            continue
        pairs = [synthesise_gate(_gate(operation), native) for operation in run if len(operation.qubits) == 2]
        if len(pairs) > 1:
            whole = _unitary(run)
            if native_count(class_of(whole), native) < sum(len(pair.gates) for pair in pairs):
                written.append_pair(run[0].qubits, synthesise(whole, native))
                continue
        following = iter(pairs)
        for operation in run:
            if len(operation.qubits) == 2:
                written.append_pair(operation.qubits, next(following))
            else:
                written.turn(operation.qubits[0], cirq.unitary(_gate(operation)))
    return written.finished()


def pair_runs(circuit: cirq.AbstractCircuit, apart: Callable[[cirq.Operation], bool] | None = None) -> Iterator[list[cirq.Operation]]:
    """The circuit in pieces: gates on the same pair with the rotations between and behind them, and rotations that no gate precedes.

    What ``apart`` holds for is a piece of its own.
    """
    current: dict[cirq.Qid, list[cirq.Operation]] = {}
    for operation in circuit.all_operations():
        alone = apart is not None and apart(operation)
        runs = [current.get(qubit) for qubit in operation.qubits]
        if runs[0] is not None and runs[0] is runs[-1] and not alone:
            runs[0].append(operation)
            continue
        for qubit in operation.qubits:
            if qubit in current:
                yield _close(current, qubit)
        run = [operation]
        if len(operation.qubits) == 1 or alone:
            yield run
        else:
            current.update((qubit, run) for qubit in operation.qubits)
    while current:
        yield _close(current, next(iter(current)))


def _close(current: dict[cirq.Qid, list[cirq.Operation]], qubit: cirq.Qid) -> list[cirq.Operation]:
    run = current[qubit]
    for member in run[0].qubits:
        del current[member]
    return run


class _Written:
    """Native operations; a rotation waits until a gate follows it, so that one gate is written for all rotations between two gates."""

    def __init__(self) -> None:
        self._operations: list[cirq.Operation] = []
        self._waiting: dict[cirq.Qid, np.ndarray] = {}

    def turn(self, qubit: cirq.Qid, unitary: np.ndarray) -> None:
        self._waiting[qubit] = unitary @ self._waiting[qubit] if qubit in self._waiting else unitary

    def append_pair(self, qubits: tuple[cirq.Qid, ...], pair: PairCircuit) -> None:
        for gate, turns in zip((None, *pair.gates), pair.turns, strict=True):
            if gate is not None:
                self.append(gate.on(*qubits))
            for qubit, unitary in zip(qubits, turns, strict=True):
                self.turn(qubit, unitary)

    def append(self, operation: cirq.Operation) -> None:
        for qubit in operation.qubits:
            self._write_turn(qubit)
        self._operations.append(operation)

    def finished(self) -> list[cirq.Operation]:
        for qubit in sorted(self._waiting):
            self._write_turn(qubit)
        return self._operations

    def _write_turn(self, qubit: cirq.Qid) -> None:
        gate = phased_xz(self._waiting.pop(qubit)) if qubit in self._waiting else None
        if gate is not None:
            self._operations.append(gate.on(qubit))


def _gate(operation: cirq.Operation) -> cirq.Gate:
    if operation.gate is None or len(operation.qubits) > 2 or not cirq.has_unitary(operation):
        raise QumosError(f"{operation} is no unitary gate on one or two qubits")
    return operation.gate


def _unitary(run: list[cirq.Operation]) -> np.ndarray:
    """Of a run of gates on a pair, the first qubit of its first gate the high bit."""
    first, second = run[0].qubits
    found = np.eye(4)
    for operation in run:
        unitary = cirq.unitary(operation)
        if operation.qubits == (first,):
            unitary = np.kron(unitary, np.eye(2))
        elif operation.qubits == (second,):
            unitary = np.kron(np.eye(2), unitary)
        elif operation.qubits != (first, second):
            unitary = unitary.reshape((2,) * 4).transpose(1, 0, 3, 2).reshape(4, 4)
        found = unitary @ found
    return found


def _with_native_symbol(operation: cirq.Operation) -> cirq.Operation:
    """A rotation with a symbol as a PhasedXZ gate."""
    gate = operation.gate
    if isinstance(gate, cirq.XPowGate):
        native = cirq.PhasedXZGate(x_exponent=gate.exponent, z_exponent=0, axis_phase_exponent=0)
    elif isinstance(gate, cirq.YPowGate):
        native = cirq.PhasedXZGate(x_exponent=gate.exponent, z_exponent=0, axis_phase_exponent=0.5)
    elif isinstance(gate, cirq.ZPowGate):
        native = cirq.PhasedXZGate(x_exponent=0, z_exponent=gate.exponent, axis_phase_exponent=0)
    else:
        symbols = ", ".join(sorted(cirq.parameter_names(operation)))
        raise QumosError(f"gate {type(gate).__name__} carries the symbol {symbols}: bind it before transpiling")
    return native.on(*operation.qubits)
