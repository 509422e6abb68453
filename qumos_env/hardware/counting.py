"""Native gates of a part by counting alone, without building its native circuit: for rewards, where a transpilation takes too long.

A run of gates on the same pair of qubits becomes at most three native two-qubit gates, whatever rotations lie between them; how many
follows from its canonical class. Where that saves nothing, every gate is written by itself, and which qubits turn around its native
gates is known. Rotations that cancel each other are counted as if they did not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import cirq
import numpy as np

from ..errors import QumosError
from .interaction import class_of
from .profile import DeviceProfile, NativeGates, Times
from .rewriting import pair_runs
from .synthesis import native_count, phased_xz, synthesise_gate
from .transpile import NativeCircuit, route

_ROTATIONS = (cirq.XPowGate, cirq.YPowGate, cirq.ZPowGate, cirq.ZZPowGate)
_GENERIC = 0x6E9A
# For each layer of rotations around and between native gates: whether the first and the second qubit turn.
_Layers = tuple[tuple[bool, bool], ...]
# Of a run: gates, or kinds of rotation with the number of their symbol, and which of the two qubits they act on.
_Structure = tuple[tuple[cirq.Gate | type[cirq.EigenGate], int | None, tuple[int, ...]], ...]


@dataclass(frozen=True)
class GateCounts:
    """What an estimate needs to know of a native circuit.

    Attributes:
        n_qubits: its width.
        n_one_qubit, n_two_qubit: number of native gates on so many qubits.
        seconds: from the first gate to the last, every gate as early as possible.
        depth: gates on the longest chain of gates that wait for each other.
    """

    n_qubits: int
    n_one_qubit: int
    n_two_qubit: int
    seconds: float
    depth: int


def exact_counts(native: NativeCircuit, times: Times) -> GateCounts:
    """The counts of a native circuit."""
    schedule = _Schedule(times)
    for operation in native.circuit.all_operations():
        schedule.add(operation.qubits)
    return schedule.counts(len(native.qubits))


@lru_cache(maxsize=4096)
def quick_counts(circuit: cirq.FrozenCircuit, profile: DeviceProfile) -> GateCounts:
    """The counts of ``transpile_part``, nearly.

    Two-qubit gates are exact, but where the root of iSWAP is native and the number depends on the angles. A gate more can mean a native
    gate fewer: what it undoes is not run.

    Raises:
        QumosError: more qubits than the device has.
    """
    routed, native = route(circuit, profile), profile.native_gates
    schedule = _Schedule(profile.times)
    turned: set[cirq.Qid] = set()

    def add(qubits: tuple[cirq.Qid, ...], layers: _Layers) -> None:
        for index, turns in enumerate(layers):
            if index:
                flush(*qubits)
                schedule.add(qubits)
            turned.update(qubit for qubit, turns_too in zip(qubits, turns, strict=True) if turns_too)

    def flush(*qubits: cirq.Qid) -> None:
        for qubit in turned.intersection(qubits):
            schedule.add((qubit,))
        turned.difference_update(qubits)

    for run in pair_runs(routed.circuit):
        structure = _structure(run)
        layers = [_gate_layers(gate, native) if len(slots) == 2 else None for gate, _, slots in structure]
        pairs = [one for one in layers if one is not None]
        if len(pairs) > 1:
            needed = _class_gates(structure, native)
            if needed < sum(len(one) - 1 for one in pairs):
                add(run[0].qubits, ((True, True),) * (needed + 1))
                continue
        for operation, one in zip(run, layers, strict=True):
            if one is None:
                turned.update(operation.qubits)
            else:
                add(operation.qubits, one)
    flush(*turned)
    return schedule.counts(len(routed.qubits))


def _structure(run: list[cirq.Operation]) -> _Structure:
    symbols: dict[str, int] = {}
    structure: list[tuple[cirq.Gate | type[cirq.EigenGate], int | None, tuple[int, ...]]] = []
    for operation in run:
        gate = operation.gate
        assert gate is not None
        slots = tuple(run[0].qubits.index(qubit) for qubit in operation.qubits)
        if cirq.is_parameterized(gate):
            (name,) = cirq.parameter_names(gate)
            kind = next((kind for kind in _ROTATIONS if isinstance(gate, kind)), None)
            if kind is None:
                raise QumosError(f"gate {gate} is not counted: of gates with a symbol, rotations about X, Y, Z and ZZ are")
            structure.append((kind, symbols.setdefault(name, len(symbols)), slots))
        else:
            structure.append((gate, None, slots))
    return tuple(structure)


@lru_cache(maxsize=1024)
def _gate_layers(gate: cirq.Gate | type[cirq.EigenGate], native: NativeGates) -> _Layers:
    """Of one gate on a pair, with a generic angle."""
    pair = synthesise_gate(gate if isinstance(gate, cirq.Gate) else gate(exponent=_angles(1)[0]), native)
    first, second = ([phased_xz(one[slot]) is not None for one in pair.turns] for slot in (0, 1))
    return tuple(zip(first, second, strict=True))


@lru_cache(maxsize=16384)
def _class_gates(structure: _Structure, native: NativeGates) -> int:
    """Native two-qubit gates for a run with generic angles; designs share most of their runs."""
    line = cirq.LineQubit.range(2)
    exponents = _angles(len(structure))
    circuit = cirq.Circuit()
    for gate, symbol, slots in structure:
        chosen = gate if isinstance(gate, cirq.Gate) else gate(exponent=exponents[symbol or 0])
        circuit.append(chosen.on(*[line[slot] for slot in slots]))
    return native_count(class_of(circuit.unitary(qubit_order=line)), native)


def _angles(count: int) -> np.ndarray:
    """Generic exponents."""
    return np.random.default_rng(_GENERIC).uniform(-1, 1, count)


class _Schedule:
    """Counts gates and starts each as soon as its qubits are free."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._free: dict[cirq.Qid, float] = {}
        self._depth: dict[cirq.Qid, int] = {}
        self._gates = Counter[int]()

    def add(self, qubits: tuple[cirq.Qid, ...]) -> None:
        end = max(self._free.get(qubit, 0.0) for qubit in qubits) + (self._times.one_qubit if len(qubits) == 1 else self._times.two_qubit)
        depth = 1 + max(self._depth.get(qubit, 0) for qubit in qubits)
        for qubit in qubits:
            self._free[qubit], self._depth[qubit] = end, depth
        self._gates[len(qubits)] += 1

    def counts(self, n_qubits: int) -> GateCounts:
        seconds, depth = max(self._free.values(), default=0.0), max(self._depth.values(), default=0)
        return GateCounts(n_qubits, self._gates[1], self._gates[2], seconds, depth)
