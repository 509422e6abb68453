"""Native gates of a part by counting alone, without building its native circuit: for rewards, where a transpilation takes too long.

A run of gates on the same pair of qubits becomes at most three native two-qubit gates, whatever rotations lie between them. How many it
takes follows from the coefficients (x, y, z) of its canonical class exp(i(x XX + y YY + z ZZ)): for CZ, Shende, Bullock, Markov,
"Recognizing small-circuit structure in two-qubit operators" (quant-ph/0308045); for the root of iSWAP, Huang et al., "Quantum instruction
set design for performance" (arXiv:2105.06074); a Mølmer–Sørensen gate provides any one coefficient. Rotations are taken to be needed on
both qubits around every native gate, except around single CZ and CX where CZ is native.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cirq
import numpy as np

from ..errors import QumosError
from .profile import NativeGates, ProviderProfile, Times
from .transpile import NativeCircuit, route

_KINDS = {"cz": cirq.CZPowGate, "cx": cirq.CXPowGate, "rzz": cirq.ZZPowGate, "swap": cirq.SwapPowGate}
# Native two-qubit gates for one gate, where it is not one.
_SINGLE: dict[NativeGates, dict[str, int]] = {
    "cz": {"rzz": 2, "swap": 3},
    "sqrt-iswap": {"cz": 2, "cx": 2, "rzz": 2, "swap": 3},
    "ms": {"swap": 3},
}
_ROTATIONS = (cirq.XPowGate, cirq.YPowGate, cirq.ZPowGate, cirq.ZZPowGate)
_EXACT = 1e-6
_GENERIC = 0x6E9A
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
def quick_counts(circuit: cirq.FrozenCircuit, profile: ProviderProfile) -> GateCounts:
    """The counts of ``transpile_part``, nearly.

    Two-qubit gates are exact, but where the root of iSWAP is native and the number depends on the angles. A gate more can mean a native
    gate fewer: what it undoes is not run.

    Raises:
        QumosError: more qubits than the device has.
    """
    routed = route(circuit, profile)
    schedule = _Schedule(profile.times)
    turned: set[cirq.Qid] = set()

    def flush(*qubits: cirq.Qid) -> None:
        for qubit in turned.intersection(qubits):
            schedule.add((qubit,))
        turned.difference_update(qubits)

    for run in _runs(routed.circuit):
        qubits = run[0].qubits
        if len(qubits) == 2:
            needed, rotated = _needs(run, profile.native_gates)
            turned.update(rotated)
            for _ in range(needed):
                flush(*qubits)
                schedule.add(qubits)
                turned.update(rotated)
        turned.update(operation.qubits[0] for operation in run if len(operation.qubits) == 1)
    flush(*turned)
    return schedule.counts(len(routed.qubits))


def _runs(circuit: cirq.Circuit) -> Iterator[list[cirq.Operation]]:
    """The circuit in pieces: gates on the same pair with the rotations between and behind them, and rotations that no gate precedes."""
    current: dict[cirq.Qid, list[cirq.Operation]] = {}
    for operation in circuit.all_operations():
        runs = [current.get(qubit) for qubit in operation.qubits]
        if runs[0] is not None and runs[0] is runs[-1]:
            runs[0].append(operation)
            continue
        if len(operation.qubits) == 1:
            yield [operation]
            continue
        for qubit in operation.qubits:
            if qubit in current:
                yield _close(current, qubit)
        run = [operation]
        current.update((qubit, run) for qubit in operation.qubits)
    while current:
        yield _close(current, next(iter(current)))


def _close(current: dict[cirq.Qid, list[cirq.Operation]], qubit: cirq.Qid) -> list[cirq.Operation]:
    run = current[qubit]
    for member in run[0].qubits:
        del current[member]
    return run


def _needs(run: list[cirq.Operation], native: NativeGates) -> tuple[int, tuple[cirq.Qid, ...]]:
    """Native two-qubit gates for a run on a pair, and the qubits that turn before and behind each of them."""
    qubits = run[0].qubits
    if sum(len(operation.qubits) == 2 for operation in run) > 1:
        return _class_gates(_structure(run), native), qubits
    kind = next((kind for kind, gate in _KINDS.items() if isinstance(run[0].gate, gate)), None)
    if kind is None:
        raise QumosError(f"gate {run[0].gate} is not counted; the kinds are {', '.join(_KINDS)}")
    rotated = {"cz": (), "cx": qubits[1:]}.get(kind, qubits) if native == "cz" else qubits
    return _SINGLE[native].get(kind, 1), rotated


def _structure(run: list[cirq.Operation]) -> _Structure:
    symbols: dict[str, int] = {}
    structure: list[tuple[cirq.Gate | type[cirq.EigenGate], int | None, tuple[int, ...]]] = []
    for operation in run:
        gate = operation.gate
        assert gate is not None
        slots = tuple(run[0].qubits.index(qubit) for qubit in operation.qubits)
        if cirq.is_parameterized(gate):
            (name,) = cirq.parameter_names(gate)
            structure.append((next(kind for kind in _ROTATIONS if isinstance(gate, kind)), symbols.setdefault(name, len(symbols)), slots))
        else:
            structure.append((gate, None, slots))
    return tuple(structure)


@lru_cache(maxsize=16384)
def _class_gates(structure: _Structure, native: NativeGates) -> int:
    """Native two-qubit gates for a run with generic angles; designs share most of their runs."""
    line = cirq.LineQubit.range(2)
    exponents = np.random.default_rng(_GENERIC).uniform(-1, 1, len(structure))
    circuit = cirq.Circuit()
    for gate, symbol, slots in structure:
        chosen = gate if isinstance(gate, cirq.Gate) else gate(exponent=exponents[symbol or 0])
        circuit.append(chosen.on(*[line[slot] for slot in slots]))
    x, y, z = np.abs(cirq.kak_decomposition(circuit.unitary(qubit_order=line)).interaction_coefficients)
    present = int(np.sum(np.array([x, y, z]) > _EXACT))
    if native == "cz":
        return 2 if present == 1 and not np.isclose(x, np.pi / 4, atol=_EXACT) else present
    if native == "sqrt-iswap" and present:
        if np.allclose((x, y, z), (np.pi / 8, np.pi / 8, 0), atol=_EXACT):
            return 1
        return 2 if x >= y + z - _EXACT else 3
    return present


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
