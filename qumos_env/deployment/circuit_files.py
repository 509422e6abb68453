"""The circuits of a bundle as Cirq's JSON, read by a reader that knows the gates of designs and nothing else.

Cirq's own reader makes whatever a file names, symbolic expressions among it; a file of a bundle may come from anybody.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import cirq
import sympy

from ..design.design import MOST_GATES
from ..design.gates import REGISTRY, recognised
from ..errors import QumosError, shown
from ..files import parse_json

_MOST_MOMENTS = 4 * MOST_GATES
_MOST_TURNS = 1e6  # of an angle, in radians or half turns


def _kinds() -> dict[str, type[cirq.Gate]]:
    """Cirq's classes of the gates that a design can have, by the name that their JSON has."""
    line = cirq.LineQubit.range(2)
    built = [spec.operation(0.5, *line[: spec.qubits]).gate for spec in REGISTRY.values() if spec.operation is not None]
    return {type(gate).__name__: type(gate) for gate in built if gate is not None}


_KINDS = _kinds()


def write_circuit(circuit: cirq.Circuit) -> str:
    """``circuit`` as Cirq's JSON."""
    return cirq.to_json(circuit)


def read_circuit(content: str | bytes, qubits: Collection[int], inputs: Collection[str], where: str) -> cirq.Circuit:
    """The circuit that ``write_circuit`` wrote.

    Args:
        content: Cirq's JSON.
        qubits: numbers of the line qubits that it may act on.
        inputs: names of the symbols that it may leave open.
        where: what errors name.

    Raises:
        QumosError: anything but gates of a design on these qubits, with finite angles or these symbols.
    """
    try:
        return _circuit(parse_json(content, where), set(qubits), set(inputs))
    except _Foreign as error:
        raise QumosError(f"{where}: {error}") from error


class _Foreign(Exception):
    """What does not belong into the circuit of a design."""


def _circuit(data: object, qubits: set[int], inputs: set[str]) -> cirq.Circuit:
    moments = _list(_typed(data, "Circuit", ("moments",), ("device",))["moments"], _MOST_MOMENTS)
    operations, built = 0, []
    for moment in moments:
        listed = _list(_typed(moment, "Moment", ("operations",))["operations"], len(qubits))
        operations += len(listed)
        if operations > _MOST_MOMENTS:
            raise _Foreign(f"more than {_MOST_MOMENTS:,} gates")
        try:
            built.append(cirq.Moment(_operation(one, qubits, inputs) for one in listed))
        except ValueError as error:
            raise _Foreign(f"overlapping gates ({error})") from error
    return cirq.Circuit(built)


def _operation(data: object, qubits: set[int], inputs: set[str]) -> cirq.Operation:
    fields = _typed(data, "GateOperation", ("gate", "qubits"))
    gate = _gate(fields["gate"], inputs)
    line = []
    for place in _list(fields["qubits"], 2):
        number = _typed(place, "LineQubit", ("x",))["x"]
        if isinstance(number, bool) or not isinstance(number, int) or number not in qubits:
            raise _Foreign(f"a gate acts on qubit {shown(number)}, which is not of the part")
        line.append(cirq.LineQubit(number))
    try:
        return gate.on(*line)
    except ValueError as error:
        raise _Foreign(f"a gate does not fit its qubits ({error})") from error


def _gate(data: object, inputs: set[str]) -> cirq.Gate:
    name = data.get("cirq_type") if isinstance(data, Mapping) else None
    if not isinstance(name, str) or name not in _KINDS:
        raise _Foreign(f"gate {shown(name)} is none of those that a design can have ({', '.join(_KINDS)})")
    fields = _typed(data, name, (), ("rads", "exponent", "global_shift"))
    try:
        gate: cirq.Gate = _KINDS[name](**{field: _angle(value, inputs) for field, value in fields.items()})
        recognised(gate)
    except (TypeError, QumosError) as error:
        raise _Foreign(f"gate {name} is none of those that a design can have ({shown(str(error))})") from error
    return gate


def _angle(value: object, inputs: set[str]) -> float | sympy.Symbol:
    if isinstance(value, Mapping):
        symbol = _typed(value, "sympy.Symbol", ("name",))["name"]
        if not isinstance(symbol, str) or symbol not in inputs:
            raise _Foreign(f"symbol {shown(symbol)} is no feature of the part")
        return sympy.Symbol(symbol)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > _MOST_TURNS:
        raise _Foreign(f"angle {shown(value)} is neither a symbol nor a number up to {_MOST_TURNS:g}")
    return value


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
