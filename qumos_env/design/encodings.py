"""How features enter circuits: as which angles, and by which gates. Two registries, which everything else asks.

A feature is scaled to an angle by the data's preprocessing; its *encoding* says which angles are admitted, and the *axis* which gates
turn the feature's qubit by that angle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import unknown

if TYPE_CHECKING:
    import cirq
    import sympy

AngleRange = tuple[float, float]
FULL_RANGE: AngleRange = (0.0, math.pi)
"""Angles in radians that tell all states of a qubit along the encoding's meridian apart."""


@dataclass(frozen=True)
class Axis:
    """How an angle becomes gates.

    Attributes:
        name: in scenario files.
        rotation: ``(angle or symbol, qubit) -> cirq.Operation``, also what re-uploading does.
        prepared: whether the qubit starts in an equal superposition: a rotation about Z only shows on one.
        seen: the Pauli axis about which the encoding turns the qubit, seen from |0⟩: behind an H, Z is X.
    """

    name: str
    rotation: Callable[[float | sympy.Expr, cirq.Qid], cirq.Operation]
    prepared: bool
    seen: str

    def operations(self, angle: float | sympy.Expr, qubit: cirq.Qid) -> list[cirq.Operation]:
        """The gates that encode ``angle`` on ``qubit`` at the start of a circuit, one after the other."""
        import cirq

        return [*([cirq.H(qubit)] if self.prepared else []), self.rotation(angle, qubit)]

    @property
    def depth(self) -> int:
        """Moments that these gates take."""
        return 2 if self.prepared else 1


@dataclass(frozen=True)
class Encoding:
    """Which angles a feature may have.

    Attributes:
        name: in scenario files.
        settle: ``(angles, angle_range) -> angles`` that are admitted, the nearest ones; arrays of any shape, radians.
        fixed_range: the only angle range that goes with it, or ``None`` for any.
        axes: names of the axes that go with it, or ``None`` for all.
        reason: why the others do not.
    """

    name: str
    settle: Callable[[np.ndarray, AngleRange], np.ndarray]
    fixed_range: AngleRange | None = None
    axes: tuple[str, ...] | None = None
    reason: str = ""


def _clipped(angles: np.ndarray, angle_range: AngleRange) -> np.ndarray:
    return np.clip(angles, *angle_range)


def _ends(angles: np.ndarray, angle_range: AngleRange) -> np.ndarray:
    low, high = angle_range
    return np.where(angles > (low + high) / 2, high, low)


def _about(axis: str) -> Callable[[float | sympy.Expr, cirq.Qid], cirq.Operation]:
    """The rotation about ``axis``; Cirq is imported when it is built, since angles need none."""

    def rotation(angle: float | sympy.Expr, qubit: cirq.Qid) -> cirq.Operation:
        import cirq

        return {"rx": cirq.rx, "ry": cirq.ry, "rz": cirq.rz}[axis](angle).on(qubit)

    return rotation


AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis("rx", _about("rx"), prepared=False, seen="X"),
        Axis("ry", _about("ry"), prepared=False, seen="Y"),
        Axis("rz", _about("rz"), prepared=True, seen="X"),
    )
}
ENCODINGS: dict[str, Encoding] = {
    encoding.name: encoding
    for encoding in (
        Encoding("angle", _clipped),
        Encoding("basis", _ends, FULL_RANGE, ("rx", "ry"), "about rz a bit would not set a basis state"),
    )
}


def axis_called(name: str) -> Axis:
    """The axis called ``name``; raises QumosError for an unknown one."""
    if name not in AXES:
        raise unknown("encoding axis", name, AXES)
    return AXES[name]


def encoding_called(name: str) -> Encoding:
    """The encoding called ``name``; raises QumosError for an unknown one."""
    if name not in ENCODINGS:
        raise unknown("encoding", name, ENCODINGS)
    return ENCODINGS[name]
