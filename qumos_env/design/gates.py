"""The gate registry: what a design may place, and what every other module needs to know about it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cirq
import sympy

from ..errors import unknown


@dataclass(frozen=True)
class GateSpec:
    """One kind of gate.

    Attributes:
        name: the name in designs, actions and scenario files.
        qubits: how many qubits it acts on.
        trainable: whether it carries an angle that training adjusts.
        symmetric: whether its qubits can be exchanged; such gates are written with ascending qubits.
        axes: per qubit the Pauli axis along which it acts (``"X"``, ``"Y"``, ``"Z"``), or ``None``; two gates
            commute when their axes agree on every shared qubit.
        operation: ``(angle or symbol, qubits) -> cirq.Operation``; fixed gates ignore the angle.
    """

    name: str
    qubits: int
    trainable: bool
    symmetric: bool
    axes: tuple[str | None, ...]
    operation: Callable[..., cirq.Operation]


def _rotation(name: str, axis: str, gate: Callable[..., cirq.Gate]) -> GateSpec:
    return GateSpec(name, 1, True, False, (axis,), lambda angle, qubit: gate(angle).on(qubit))


def rzz(angle: float | sympy.Expr, a: cirq.Qid, b: cirq.Qid) -> cirq.Operation:
    """exp(-i·angle/2·Z⊗Z) on ``a``, ``b``; ``angle`` in radians, a number or a symbol."""
    pi = sympy.pi if cirq.is_parameterized(angle) else math.pi
    return cirq.ZZPowGate(exponent=angle / pi, global_shift=-0.5).on(a, b)


def _refuse_reupload(*_: object) -> cirq.Operation:
    raise TypeError("the axis of a re-upload is the scenario's: circuits.py builds it")


REGISTRY: dict[str, GateSpec] = {
    spec.name: spec
    for spec in (
        _rotation("rx", "X", cirq.rx),
        _rotation("ry", "Y", cirq.ry),
        _rotation("rz", "Z", cirq.rz),
        GateSpec("h", 1, False, False, (None,), lambda _, qubit: cirq.H(qubit)),
        GateSpec("cz", 2, False, True, ("Z", "Z"), lambda _, a, b: cirq.CZ(a, b)),
        GateSpec("cx", 2, False, False, ("Z", "X"), lambda _, a, b: cirq.CX(a, b)),
        GateSpec("rzz", 2, True, True, ("Z", "Z"), rzz),
        # Rotates its qubit once more by the feature encoded there.
        GateSpec("reupload", 1, False, False, (None,), _refuse_reupload),
    )
}


def gate_spec(name: str) -> GateSpec:
    """The gate called ``name``.

    Raises:
        QumosError: no such gate; the nearest names are offered.
    """
    if name not in REGISTRY:
        raise unknown("gate", name, REGISTRY)
    return REGISTRY[name]
