"""OpenQASM 3 for the circuits of a part: trained angles as numbers, features as ``input`` variables."""

from __future__ import annotations

import cirq
import sympy

from ..design.gates import recognised


def to_openqasm3(circuit: cirq.Circuit, qubits: list[cirq.LineQubit]) -> str:
    """``circuit`` as an OpenQASM 3 program that measures every qubit; ``q[i]`` is ``qubits[i]``.

    Raises:
        QumosError: a gate outside the registry.
    """
    place = {qubit: f"q[{index}]" for index, qubit in enumerate(qubits)}
    lines = ["OPENQASM 3.0;", 'include "stdgates.inc";']
    lines += [f"input float[64] {name};" for name in sorted(cirq.parameter_names(circuit), key=lambda name: int(name[1:]))]
    lines += [f"bit[{len(qubits)}] c;", f"qubit[{len(qubits)}] q;"]
    for op in circuit.all_operations():
        spec, angle = recognised(op.gate)
        lines += [statement.format(*(place[qubit] for qubit in op.qubits), angle=_angle(angle)) for statement in spec.qasm]  # type: ignore[index]
    lines += [f"c[{index}] = measure q[{index}];" for index in range(len(qubits))]
    return "\n".join(lines) + "\n"


def _angle(value: object) -> str:
    return value.name if isinstance(value, sympy.Symbol) else repr(float(value))  # type: ignore[arg-type]
