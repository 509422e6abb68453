"""The gate registry: what a design may place, and all that any other module needs to know about it.

Cirq is imported where a circuit is built: a design as such, and what serves one, needs none and starts in a fraction of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..errors import QumosError, unknown

if TYPE_CHECKING:
    import cirq
    import sympy


@dataclass(frozen=True)
class GateSpec:
    """One kind of gate.

    Attributes:
        name: the name in designs, actions and scenario files.
        axes: for every qubit that it acts on the Pauli axis along which it acts (``"X"``, ``"Y"``, ``"Z"``), or ``None``; two gates
            commute when their axes agree on every shared qubit.
        operation: ``(angle or symbol, *qubits) -> cirq.Operation``; fixed gates ignore the angle. ``None`` for a gate that encodes the
            feature of its qubit once more: its operation is the encoding's.
        angle: the angle that a ``cirq.Gate`` of this kind has, ``None`` for another kind of gate; fixed gates have the angle 0.
        trainable: whether it carries an angle that training adjusts.
        symmetric: whether its qubits can be exchanged; such gates are written with ascending qubits.
        cuttable: whether it may join two parts, see ``gate_cuts``.
        placed_as: the blocks that place it on a whole part: a ``layer``, the chains and rings of an ``entangler``, or none.
        text: what stands for it in a text drawing, per qubit.
        drawing: the same in a picture: a label on one qubit, matplotlib's marker on each of several.
        qasm: statements of OpenQASM 3, with ``{angle}``, and ``{0}``, ``{1}``, ... for its qubits.
    """

    name: str
    axes: tuple[str | None, ...]
    operation: Callable[..., cirq.Operation] | None
    angle: Callable[[cirq.Gate], Any]
    trainable: bool = False
    symmetric: bool = False
    cuttable: bool = False
    placed_as: Literal["layer", "entangler"] | None = None
    text: tuple[str, ...] = ()
    drawing: tuple[str, ...] = ()
    qasm: tuple[str, ...] = ()

    @property
    def qubits(self) -> int:
        """How many qubits it acts on."""
        return len(self.axes)


def rzz(angle: float | sympy.Expr, a: cirq.Qid, b: cirq.Qid) -> cirq.Operation:
    """exp(-i·angle/2·Z⊗Z) on ``a``, ``b``; ``angle`` in radians, a number or a symbol."""
    import cirq
    import sympy

    pi = sympy.pi if cirq.is_parameterized(angle) else math.pi
    return cirq.ZZPowGate(exponent=angle / pi, global_shift=-0.5).on(a, b)


def _rzz_angle(gate: cirq.Gate) -> Any:
    import cirq

    return gate.exponent * math.pi if isinstance(gate, cirq.ZZPowGate) else None


def _rotation(axis: str) -> GateSpec:
    name = f"r{axis.lower()}"

    def kind() -> Any:
        import cirq

        return {"X": cirq.Rx, "Y": cirq.Ry, "Z": cirq.Rz}[axis]

    return GateSpec(
        name,
        axes=(axis,),
        operation=lambda angle, qubit: kind()(rads=angle).on(qubit),
        angle=lambda gate: gate._rads if isinstance(gate, kind()) else None,
        trainable=True,
        placed_as="layer",
        text=(name,),
        drawing=(name.capitalize(),),
        qasm=(f"{name}({{angle}}) {{0}};",),
    )


def _fixed(name: str, axes: tuple[str | None, ...], **fields: Any) -> GateSpec:
    def gate() -> cirq.Gate:
        import cirq

        return {"h": cirq.H, "cz": cirq.CZ, "cx": cirq.CX}[name]

    places = ", ".join(f"{{{place}}}" for place in range(len(axes)))
    return GateSpec(
        name,
        axes=axes,
        operation=lambda _, *qubits: gate().on(*qubits),
        angle=lambda other: 0.0 if other == gate() else None,
        qasm=(f"{name} {places};",),
        **fields,
    )


REGISTRY: dict[str, GateSpec] = {
    spec.name: spec
    for spec in (
        _rotation("X"),
        _rotation("Y"),
        _rotation("Z"),
        _fixed("h", (None,), placed_as="layer", text=("H",), drawing=("H",)),
        _fixed("cz", ("Z", "Z"), symmetric=True, placed_as="entangler", text=("●", "●"), drawing=("o", "o")),
        _fixed("cx", ("Z", "X"), text=("●", "⊕"), drawing=("o", "$\\oplus$")),
        GateSpec(
            "rzz",
            axes=("Z", "Z"),
            operation=rzz,
            angle=_rzz_angle,
            trainable=True,
            symmetric=True,
            cuttable=True,
            placed_as="entangler",
            text=("ZZ", "ZZ"),
            drawing=("s", "s"),
            # Not in the standard gate library of OpenQASM 3.
            qasm=("cx {0}, {1};", "rz({angle}) {1};", "cx {0}, {1};"),
        ),
        GateSpec("reupload", (None,), None, lambda _: None, placed_as="layer", text=("↻",), drawing=("↻",)),
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


def recognised(gate: cirq.Gate | None) -> tuple[GateSpec, Any]:
    """The kind of a gate in a circuit of a design, and its angle in radians, a number or a symbol.

    Raises:
        QumosError: no design has such a gate.
    """
    for spec in REGISTRY.values():
        angle = None if gate is None else spec.angle(gate)
        if angle is not None:
            return spec, angle
    raise QumosError(f"gate {gate} is none of those that a design can have")


def cuttable_gates() -> tuple[str, ...]:
    """Names of the gates that may join two parts."""
    return tuple(name for name, spec in REGISTRY.items() if spec.cuttable)
