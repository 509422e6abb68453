"""The circuits of a bundle as Cirq's JSON, read by a reader that knows the gates of designs and nothing else.

Cirq's own reader makes whatever a file names, symbolic expressions among it; a file of a bundle may come from anybody. What is read is
plain data first, which is all that a provider's server needs, and a Cirq circuit where one is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..design.design import MOST_GATES
from ..errors import QumosError, shown
from ..files import parse_json

if TYPE_CHECKING:
    import cirq

_MOST_MOMENTS = 4 * MOST_GATES
_MOST_TURNS = 1e6  # of an angle, in radians or half turns
# Cirq's classes of the gates that a design can have, and their names in the registry; the field that holds the angle, if they have one.
_KINDS = {
    "Rx": ("rx", "rads"),
    "Ry": ("ry", "rads"),
    "Rz": ("rz", "rads"),
    "HPowGate": ("h", None),
    "CZPowGate": ("cz", None),
    "CXPowGate": ("cx", None),
    "ZZPowGate": ("rzz", "exponent"),
}
_WIDTHS = {"rx": 1, "ry": 1, "rz": 1, "h": 1, "cz": 2, "cx": 2, "rzz": 2}


@dataclass(frozen=True)
class PlainGate:
    """One gate of a file.

    Attributes:
        name: in the registry of gates.
        qubits: numbers of its line qubits.
        angle: in radians, or the name of the feature that gives it; 0 for a gate without one.
    """

    name: str
    qubits: tuple[int, ...]
    angle: float | str = 0.0


def write_circuit(circuit: cirq.Circuit) -> str:
    """``circuit`` as Cirq's JSON."""
    import cirq

    return cirq.to_json(circuit)


def read_moments(content: str | bytes, qubits: Collection[int], inputs: Collection[str], where: str) -> list[list[PlainGate]]:
    """The gates, by moments, of the circuit that ``write_circuit`` wrote.

    Args:
        content: Cirq's JSON.
        qubits: numbers of the line qubits that it may act on.
        inputs: names of the symbols that it may leave open.
        where: what errors name.

    Raises:
        QumosError: anything but gates of a design on these qubits, with finite angles or these symbols.
    """
    try:
        return _moments(parse_json(content, where), set(qubits), set(inputs))
    except _Foreign as error:
        raise QumosError(f"{where}: {error}") from error


def read_circuit(content: str | bytes, qubits: Collection[int], inputs: Collection[str], where: str) -> cirq.Circuit:
    """As ``read_moments``, as a Cirq circuit."""
    return build_circuit(read_moments(content, qubits, inputs, where))


def build_circuit(moments: Iterable[Iterable[PlainGate]]) -> cirq.Circuit:
    """The Cirq circuit of gates that were read."""
    import cirq
    import sympy

    from ..design.gates import gate_spec

    def operation(gate: PlainGate) -> cirq.Operation:
        build = gate_spec(gate.name).operation
        assert build is not None  # _KINDS names none that has no gate of its own
        angle = sympy.Symbol(gate.angle) if isinstance(gate.angle, str) else gate.angle
        return build(angle, *map(cirq.LineQubit, gate.qubits))

    return cirq.Circuit(cirq.Moment(map(operation, moment)) for moment in moments)


class _Foreign(Exception):
    """What does not belong into the circuit of a design."""


def _moments(data: object, qubits: set[int], inputs: set[str]) -> list[list[PlainGate]]:
    moments = _list(_typed(data, "Circuit", ("moments",), ("device",))["moments"], _MOST_MOMENTS)
    count, built = 0, []
    for moment in moments:
        listed = _list(_typed(moment, "Moment", ("operations",))["operations"], len(qubits))
        count += len(listed)
        if count > _MOST_MOMENTS:
            raise _Foreign(f"more than {_MOST_MOMENTS:,} gates")
        gates = [_operation(one, qubits, inputs) for one in listed]
        touched = [qubit for gate in gates for qubit in gate.qubits]
        if len(set(touched)) < len(touched):
            raise _Foreign("overlapping gates in one moment")
        built.append(gates)
    return built


def _operation(data: object, qubits: set[int], inputs: set[str]) -> PlainGate:
    fields = _typed(data, "GateOperation", ("gate", "qubits"))
    name, angle = _gate(fields["gate"], inputs)
    line = []
    for place in _list(fields["qubits"], 2):
        number = _typed(place, "LineQubit", ("x",))["x"]
        if isinstance(number, bool) or not isinstance(number, int) or number not in qubits:
            raise _Foreign(f"a gate acts on qubit {shown(number)}, which is not of the part")
        line.append(number)
    if len(line) != _WIDTHS[name] or len(set(line)) < len(line):
        raise _Foreign(f"a gate does not fit its qubits ({name} on {shown(line)})")
    return PlainGate(name, tuple(line), angle)


def _gate(data: object, inputs: set[str]) -> tuple[str, float | str]:
    kind = data.get("cirq_type") if isinstance(data, Mapping) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise _Foreign(f"gate {shown(kind)} is none of those that a design can have ({', '.join(_KINDS)})")
    name, field = _KINDS[kind]
    if field == "rads":
        return name, _angle(_typed(data, kind, (field,))[field], inputs)
    fields = _typed(data, kind, (), ("exponent", "global_shift"))
    exponent, shift = (_angle(fields.get(key, default), set()) for key, default in (("exponent", 1.0), ("global_shift", 0.0)))
    assert not isinstance(exponent, str)
    if field == "exponent":
        return name, exponent * math.pi  # the global shift is a phase of the whole state
    if exponent != 1 or shift != 0:
        raise _Foreign(f"gate {kind} is none of those that a design can have (exponent {shown(exponent)}, global shift {shown(shift)})")
    return name, 0.0


def _angle(value: object, inputs: set[str]) -> float | str:
    if isinstance(value, Mapping):
        symbol = _typed(value, "sympy.Symbol", ("name",))["name"]
        if not isinstance(symbol, str) or symbol not in inputs:
            raise _Foreign(f"symbol {shown(symbol)} is no feature of the part")
        return symbol
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > _MOST_TURNS:
        raise _Foreign(f"angle {shown(value)} is neither a symbol nor a number up to {_MOST_TURNS:g}")
    return float(value)


def _typed(data: object, name: str, needed: tuple[str, ...], allowed: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of an object of Cirq's JSON that is called ``name``."""
    if not isinstance(data, Mapping) or data.get("cirq_type") != name:
        raise _Foreign(f"{shown(data)} where a {name} is expected")
    fields = {key: value for key, value in data.items() if key != "cirq_type"}
    for key in needed:
        if key not in fields:
            raise _Foreign(f"a {name} without {key}")
    for key in fields:
        if key not in (*needed, *allowed):
            raise _Foreign(f"a {name} with {shown(key)}")
    return fields


def _list(value: object, most: int) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise _Foreign(f"{shown(value)} where a list of at most {most:,} is expected")
    return value
