"""Translation of a parametrised Cirq circuit into a compact program that can be re-run with other angles cheaply.

A program is a product state that encodes the inputs, then segments of gates shared by all samples, with layers of
per-sample rotations (re-uploaded inputs) between them. Angles are radians throughout.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import cirq
import numpy as np
import sympy

from ..errors import QumosError, one_line
from .instructions import TO_Z, Fixed, InputRotation, Instruction, Program, Rotation, assemble

_NATIVE: dict[object, str] = {cirq.H: "h", cirq.CZ: "cz", cirq.CX: "cx"}
# Powers of Pauli products: how many qubits control them, and the axes on the others.
_POWERS: tuple[tuple[type, int, str], ...] = (
    (cirq.XPowGate, 0, "X"),
    (cirq.YPowGate, 0, "Y"),
    (cirq.ZPowGate, 0, "Z"),
    (cirq.XXPowGate, 0, "XX"),
    (cirq.YYPowGate, 0, "YY"),
    (cirq.ZZPowGate, 0, "ZZ"),
    (cirq.CXPowGate, 1, "X"),
    (cirq.CZPowGate, 1, "Z"),
    (cirq.CCXPowGate, 2, "X"),
    (cirq.CCZPowGate, 2, "Z"),
)
_ONE_QUBIT_AXES = ("X", "Y", "Z")
_WEIGHT_AXES = (*_ONE_QUBIT_AXES, "XX", "YY", "ZZ")
_UNITARY_TOLERANCE = 1e-6
_MAX_CONTROLS = 6
_LONGEST_NAME = 80
_MAX_MATRIX_QUBITS = 6


def natural_symbols(circuit: cirq.AbstractCircuit) -> tuple[str, ...]:
    """Names of the circuit's symbols, with numbers inside names sorted by value (``w2`` before ``w10``)."""

    def key(name: str) -> list[tuple[int, int, str]]:
        return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in re.split(r"([0-9]+)", name) if piece]

    return tuple(sorted(cirq.parameter_names(circuit), key=key))


def symbol_names(argument: str, symbols: Iterable[object]) -> tuple[str, ...]:
    """Names of ``symbols``, each a ``sympy.Symbol`` or a name already; raises QumosError naming ``argument`` for anything else."""
    if isinstance(symbols, (str, sympy.Expr)) or not isinstance(symbols, Iterable):
        raise QumosError(f"{argument}: a list of symbols or names is needed, such as [x] or ['x'], got {_shown(symbols)}")
    names: list[str] = []
    for symbol in symbols:
        if not isinstance(symbol, (str, sympy.Symbol)):
            kind = type(symbol).__name__
            raise QumosError(f"{argument}: a sympy.Symbol or its name is needed, got {_shown(symbol)} of type {kind} at place {len(names)}")
        names.append(symbol.name if isinstance(symbol, sympy.Symbol) else str(symbol))
    return tuple(names)


def _shown(given: object) -> str:
    text = one_line(repr(given))
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 3]}..."


def compile_circuit(
    circuit: cirq.AbstractCircuit,
    qubits: Sequence[cirq.Qid],
    input_symbols: Sequence[str] = (),
    weight_symbols: Sequence[str] | None = None,
) -> Program:
    """Compiles ``circuit``.

    Args:
        circuit: unitary gates; each parametrised gate holds one symbol, linearly, and is a rotation about a Pauli product or a power
            of one, controlled by other qubits or not (others, and fixed gates on many qubits, are decomposed by Cirq where it knows how).
        qubits: the register, most significant first; may hold qubits that the circuit does not touch.
        input_symbols: symbols that take a value per sample, in the order of the input columns.
        weight_symbols: symbols shared by all samples, in the order of the weight vector; default all others in natural order.

    Raises:
        QumosError: a symbol that occurs nowhere or in no list, a qubit missing from ``qubits`` or listed twice there, a gate that is
            not supported.
    """
    names = set(cirq.parameter_names(circuit))
    if weight_symbols is None:
        weight_symbols = [name for name in natural_symbols(circuit) if name not in set(input_symbols)]
    listed = [*input_symbols, *weight_symbols]
    for argument, symbols in (("input_symbols", input_symbols), ("weight_symbols", weight_symbols)):
        for name in symbols:
            if name not in names:
                raise QumosError(f"{argument}: symbol {name!r} occurs nowhere in the circuit")
    if len(set(listed)) != len(listed):
        raise QumosError("input_symbols and weight_symbols: a symbol is listed twice")
    if names - set(listed):
        raise QumosError(f"weight_symbols: symbol {min(names - set(listed))!r} is neither an input nor a weight")
    check_register(circuit, qubits)
    place = {qubit: index for index, qubit in enumerate(qubits)}
    inputs = {name: index for index, name in enumerate(input_symbols)}
    weights = {name: index for index, name in enumerate(weight_symbols)}
    instructions: list[Instruction] = []
    for op in circuit.all_operations():
        instructions.extend(operation_instructions(op, place, inputs, weights))
    return assemble(len(place), len(inputs), len(weights), instructions)


def check_register(circuit: cirq.AbstractCircuit, qubits: Sequence[cirq.Qid]) -> None:
    """Raises QumosError where ``qubits`` are not distinct qubits that hold those of ``circuit``."""
    if len(set(qubits)) != len(qubits):
        raise QumosError("qubits: a qubit is listed twice")
    for qubit in sorted(circuit.all_qubits().union(qubits)):
        if qubit not in qubits:
            raise QumosError(f"qubits: {qubit} of the circuit is missing")
        if qubit.dimension != 2:
            raise QumosError(f"qubits: {qubit} has dimension {qubit.dimension}, only qubits are supported")


def operation_instructions(
    op: cirq.Operation,
    place: Mapping[cirq.Qid, int],
    inputs: Mapping[str, int],
    weights: Mapping[str, int],
    whole: cirq.Operation | None = None,
) -> list[Instruction]:
    """The instructions of one operation; ``place``, ``inputs`` and ``weights`` number its qubits and symbols.

    Args:
        whole: the operation that ``op`` is a piece of, for messages.

    Raises:
        QumosError: the gate is not supported, or its angle is not linear in one symbol.
    """
    qubits = tuple(place[qubit] for qubit in op.qubits)
    is_fixed = not cirq.is_parameterized(op)
    if is_fixed and len(qubits) <= _MAX_MATRIX_QUBITS:
        return [_fixed(op, qubits)] if qubits else []
    found = None if is_fixed else _generator(op.gate)
    if found is None:
        whole = whole or op
        return [item for piece in _decompose(op, whole) for item in operation_instructions(piece, place, inputs, weights, whole)]
    terms, angle = found
    name, scale, offset = _linear(angle, op)
    if name in weights:
        return _rotations(terms, qubits, partial(_weight_rotation, weights[name], scale, offset), _WEIGHT_AXES)
    return _rotations(terms, qubits, partial(_input_rotation, inputs[name], scale, offset), _ONE_QUBIT_AXES)


_Rotate = Callable[[str, tuple[int, ...], float], Instruction]


def _weight_rotation(weight: int, scale: float, offset: float, axes: str, qubits: tuple[int, ...], factor: float) -> Rotation:
    return Rotation(axes, qubits, weight, factor * scale, factor * offset)


def _input_rotation(feature: int, scale: float, offset: float, axes: str, qubits: tuple[int, ...], factor: float) -> InputRotation:
    return InputRotation(axes, qubits[0], feature, factor * scale, factor * offset)


def _rotations(terms: Mapping[str, float], qubits: Sequence[int], rotate: _Rotate, native: Sequence[str]) -> list[Instruction]:
    """Rotations about the Pauli strings ``terms`` (letter per qubit, to the factor of the angle); ``rotate`` makes the ``native`` ones."""
    acting = [
        (tuple(qubit for qubit, letter in zip(qubits, string, strict=True) if letter != "I"), string.replace("I", ""), factor)
        for string, factor in terms.items()
        # A string of I alone is a global phase, which expectation values do not see.
        if factor and set(string) != {"I"}
    ]
    if all(axes in native for _, axes, _ in acting):
        return [rotate(axes, on, factor) for on, axes, factor in acting]
    # Conjugated: every axis is turned to Z, and longer products of Z are brought down by a ladder of CNOTs.
    letters = {qubit: letter for on, axes, _ in acting for qubit, letter in zip(on, axes, strict=True)}
    turn = [Fixed("matrix", (qubit,), TO_Z[letter]) for qubit, letter in letters.items() if letter != "Z"]
    back = [Fixed("matrix", gate.qubits, gate.matrix.conj().T) for gate in turn if gate.matrix is not None]
    longest = max(map(len, native))
    found: list[Instruction] = [*turn]
    for on, _, factor in acting:
        ladder = [Fixed("cx", pair) for pair in itertools.pairwise(on)][: max(0, len(on) - longest)]
        left = on[-longest:]
        found += [*ladder, rotate("Z" * len(left), left, factor), *reversed(ladder)]
    return [*found, *back]


def _generator(gate: cirq.Gate | None) -> tuple[dict[str, float], object] | None:
    """H and the angle of a parametrised gate exp(-i/2·angle·H); None for a gate that is not of this kind.

    H is given by the coefficients of its Pauli strings, one letter per qubit of the gate, which differ by letters I alone (so that
    they commute). The string of I alone is a phase: global, unless something controls the gate.
    """
    if isinstance(gate, (cirq.Rx, cirq.Ry, cirq.Rz)):
        return {{cirq.Rx: "X", cirq.Ry: "Y", cirq.Rz: "Z"}[type(gate)]: 1.0}, gate._rads
    if isinstance(gate, cirq.ControlledGate):
        found = _generator(gate.sub_gate)
        if found is None:
            return None
        if gate.num_controls() > _MAX_CONTROLS:
            raise QumosError(f"gate {gate} has {gate.num_controls()} controls, parametrised gates may have {_MAX_CONTROLS}")
        return _controlled(found[0], set(gate.control_values.expand())), found[1]
    if isinstance(gate, cirq.EigenGate):
        for kind, controls, axes in _POWERS:
            if isinstance(gate, kind):
                # P^e = exp(-i/2·e·pi·(P - 1)), and a global shift s adds a factor exp(i·e·pi·s).
                terms = _controlled({axes: 1.0, "I" * len(axes): -1.0}, {(1,) * controls})
                terms["I" * (controls + len(axes))] -= 2 * gate.global_shift
                return terms, gate.exponent * sympy.pi
    return None


def _controlled(terms: Mapping[str, float], values: Iterable[tuple[int, ...]]) -> dict[str, float]:
    """The generator ``terms`` behind controls, which let it act where they read one of ``values``.

    The projector on |v⟩ is the product over the controls of (1 ± Z)/2, minus where v is 1.
    """
    values = [tuple(map(int, value)) for value in values]
    found = {}
    for letters in itertools.product("IZ", repeat=len(values[0])):
        signs = [sum(bit for letter, bit in zip(letters, value, strict=True) if letter == "Z") for value in values]
        share = sum((-1) ** sign for sign in signs) / 2 ** len(letters)
        found.update({"".join(letters) + string: share * factor for string, factor in terms.items()})
    return found


def gate_name(op: cirq.Operation) -> str:
    """What to call the gate of ``op`` in a message."""
    name = one_line(op.gate or op)
    return name if len(name) <= _LONGEST_NAME else type(op.gate or op).__name__


def _decompose(op: cirq.Operation, whole: cirq.Operation) -> list[cirq.Operation]:
    pieces = cirq.decompose_once(op, default=None)
    if pieces is None or not all(isinstance(piece, cirq.Operation) and set(piece.qubits) <= set(op.qubits) for piece in pieces):
        if not cirq.is_parameterized(op):
            limit = f"fixed gates may act on {_MAX_MATRIX_QUBITS} unless Cirq can decompose them"
            raise QumosError(f"gate {gate_name(whole)} acts on {len(op.qubits)} qubits, {limit}")
        raise QumosError(f"gate {gate_name(whole)} is not supported: it is no rotation about a Pauli product and Cirq cannot decompose it")
    return list(pieces)


def _linear(angle: object, op: cirq.Operation) -> tuple[str, float, float]:
    """``angle`` as ``scale·symbol + offset``."""
    if isinstance(angle, sympy.Symbol):
        return angle.name, 1.0, 0.0
    symbols = sorted(angle.free_symbols, key=str) if isinstance(angle, sympy.Expr) else []
    if len(symbols) == 1:
        scale = sympy.diff(angle, symbols[0])
        offset = angle.subs(symbols[0], 0)  # type: ignore[attr-defined]
        if all(number.is_number and number.is_real and number.is_finite for number in (scale, offset)):
            return symbols[0].name, float(scale), float(offset)
    raise QumosError(f"gate {op}: its angle {angle} is not linear in one symbol")


def _fixed(op: cirq.Operation, qubits: tuple[int, ...]) -> Fixed:
    name = _NATIVE.get(op.gate)
    if name is not None:
        return Fixed(name, qubits)
    matrix = cirq.unitary(op, None)
    if matrix is None:
        raise QumosError(f"gate {gate_name(op)} is not unitary")
    if not np.allclose(matrix.conj().T @ matrix, np.eye(len(matrix)), atol=_UNITARY_TOLERANCE):
        raise QumosError(f"gate {gate_name(op)} is not unitary: its matrix does not keep the norm")
    return Fixed("matrix", qubits, matrix)
