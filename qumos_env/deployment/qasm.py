"""OpenQASM 3 for the circuits of a part: trained angles as numbers, features as ``input`` variables."""

from __future__ import annotations

import math

import cirq
import sympy

from ..errors import QumosError

_FIXED = {cirq.H: "h", cirq.CZ: "cz", cirq.CX: "cx"}


def to_openqasm3(circuit: cirq.Circuit, qubits: list[cirq.LineQubit]) -> str:
    """``circuit`` as an OpenQASM 3 program that measures every qubit; ``q[i]`` is ``qubits[i]``.

    RZZ is not in the standard gate library of OpenQASM 3 and is written as CX·RZ·CX.

    Raises:
        QumosError: a gate outside the registry.
    """
    place = {qubit: f"q[{index}]" for index, qubit in enumerate(qubits)}
    lines = ["OPENQASM 3.0;", 'include "stdgates.inc";']
    lines += [f"input float[64] {name};" for name in sorted(cirq.parameter_names(circuit), key=lambda name: int(name[1:]))]
    lines += [f"bit[{len(qubits)}] c;", f"qubit[{len(qubits)}] q;"]
    for op in circuit.all_operations():
        targets = [place[qubit] for qubit in op.qubits]  # type: ignore[index]
        if op.gate in _FIXED:
            lines.append(f"{_FIXED[op.gate]} {', '.join(targets)};")
        elif isinstance(op.gate, cirq.ZZPowGate):
            a, b = targets
            lines += [f"cx {a}, {b};", f"rz({_angle(op.gate.exponent * math.pi)}) {b};", f"cx {a}, {b};"]
        else:
            lines.append(f"{_rotation(op)} {targets[0]};")
    lines += [f"c[{index}] = measure q[{index}];" for index in range(len(qubits))]
    return "\n".join(lines) + "\n"


def _rotation(op: cirq.Operation) -> str:
    if isinstance(op.gate, (cirq.Rx, cirq.Ry, cirq.Rz)):
        return f"{type(op.gate).__name__.lower()}({_angle(op.gate._rads)})"
    raise QumosError(f"gate {op.gate} cannot be written as OpenQASM 3")


def _angle(value: object) -> str:
    return value.name if isinstance(value, sympy.Symbol) else repr(float(value))  # type: ignore[arg-type]
