"""Unitaries of two qubits in native gates: rotations of both qubits in turn with one native two-qubit gate.

As few native gates as there can be. For CZ the circuits of Vatan and Williams (quant-ph/0308006); for the root of iSWAP those of Huang et
al., "Quantum instruction set design for performance" (arXiv:2105.06074); a Mølmer–Sørensen gate of any angle is one term XX.
"""

from __future__ import annotations

from dataclasses import dataclass

import cirq
import numpy as np

from .interaction import SAME, Coefficients, Turns, interaction
from .profile import NativeGates

_QUARTER = np.pi / 4
_ONE = np.eye(2)
_X, _H, _S = (cirq.unitary(gate) for gate in (cirq.X, cirq.H, cirq.S))
_SDG = _S.conj()


@dataclass(frozen=True)
class PairCircuit:
    """Native gates on a pair of qubits.

    Attributes:
        turns: unitaries on the first and the second qubit: before the first of ``gates``, between them, and behind the last.
        gates: native gates, one fewer than ``turns``.
    """

    turns: tuple[Turns, ...]
    gates: tuple[cirq.Gate, ...] = ()

    def then(self, later: PairCircuit) -> PairCircuit:
        """This circuit with ``later`` behind it."""
        joint = tuple(behind @ ahead for ahead, behind in zip(self.turns[-1], later.turns[0], strict=True))
        return PairCircuit((*self.turns[:-1], (joint[0], joint[1]), *later.turns[1:]), self.gates + later.gates)

    def between(self, before: Turns, after: Turns) -> PairCircuit:
        """This circuit with ``before`` ahead of it and ``after`` behind it."""
        return PairCircuit((before,)).then(self).then(PairCircuit((after,)))

    def unitary(self) -> np.ndarray:
        """Shape (4, 4), the first qubit the high bit."""
        found = np.kron(*self.turns[0])
        for gate, turns in zip(self.gates, self.turns[1:], strict=True):
            found = np.kron(*turns) @ cirq.unitary(gate) @ found
        return found


def native_count(coefficients: Coefficients, native: NativeGates) -> int:
    """Native gates that a unitary with these canonical coefficients takes.

    For CZ: Shende, Bullock, Markov, "Recognizing small-circuit structure in two-qubit operators" (quant-ph/0308045).
    """
    x, y, z = coefficients
    present = sum(abs(one) > SAME for one in coefficients)
    if native == "ms" or not present:
        return present
    if native == "cz":
        return 1 if present == 1 and _is(x, _QUARTER) else max(2, present)
    if _is(x, np.pi / 8) and _is(y, np.pi / 8) and _is(z, 0):
        return 1
    return 2 if x > y + abs(z) - SAME else 3


def synthesise(unitary: np.ndarray, native: NativeGates) -> PairCircuit:
    """``unitary``, shape (4, 4), in native gates, up to a global phase."""
    found = interaction(unitary)
    return _canonical(found.coefficients, native).between(found.before, found.after)


def synthesise_gate(gate: cirq.Gate, native: NativeGates) -> PairCircuit:
    """``gate`` in native gates, up to a global phase; CZ, CX and rotations about ZZ with fewer rotations than ``synthesise`` finds."""
    if gate == cirq.CX:
        return synthesise_gate(cirq.CZ, native).between((_ONE, _H), (_ONE, _H))
    if gate == cirq.CZ and native == "cz":
        return PairCircuit(((_ONE, _ONE),) * 2, (cirq.CZ,))
    if gate == cirq.CZ:
        return _zz(_QUARTER, native).between((_ONE, _ONE), (_S, _S))
    if isinstance(gate, cirq.ZZPowGate):
        return _zz(-gate.exponent * np.pi / 2, native)
    return synthesise(cirq.unitary(gate), native)


def phased_xz(unitary: np.ndarray) -> cirq.PhasedXZGate | None:
    """A unitary of one qubit as Z^z·Z^a·X^x·Z^−a up to a global phase, 0 ≤ x ≤ 1 and the others above −1; ``None`` for the identity.

    Where x leaves a or z open they are 0, so that a gate has one way to be written, whatever the last bits of its unitary.
    """
    (one, right), (below, two) = unitary
    x = 2 / np.pi * np.arctan2(abs(below), abs(one))
    if _is(x, 1):
        return cirq.PhasedXZGate(x_exponent=1.0, z_exponent=0.0, axis_phase_exponent=_half_turns(below / right, 1) / 2)
    z = _half_turns(two / one, 1)
    if not _is(x, 0):
        return cirq.PhasedXZGate(x_exponent=float(x), z_exponent=z, axis_phase_exponent=_half_turns(1j * right / one, -1))
    return None if _is(z, 0) else cirq.PhasedXZGate(x_exponent=0.0, z_exponent=z, axis_phase_exponent=0.0)


def _half_turns(phase: complex, sign: int) -> float:
    """The angle of ``phase`` times ``sign`` in units of π, in (−1, 1]."""
    found = sign * float(np.angle(phase)) / np.pi
    return 1.0 if _is(abs(found), 1) else found


def _is(value: float, other: float) -> bool:
    return abs(value - other) < SAME


def _turn(pauli: cirq.Gate, angle: float) -> np.ndarray:
    """exp(i·angle·pauli)."""
    return np.cos(angle) * _ONE + 1j * np.sin(angle) * cirq.unitary(pauli)


def _zz(angle: float, native: NativeGates) -> PairCircuit:
    """exp(i·angle·ZZ)."""
    quarters = round(angle / (np.pi / 2))
    rest = angle - quarters * np.pi / 2
    flip = cirq.unitary(cirq.Z) if quarters % 2 else _ONE
    return _xx(rest, native).between((_H, _H), (flip @ _H, flip @ _H))


def _xx(angle: float, native: NativeGates) -> PairCircuit:
    """exp(i·angle·XX), at most π/4 either way."""
    ones = (_ONE, _ONE)
    if _is(angle, 0):
        return PairCircuit((ones,))
    if native == "ms":
        return PairCircuit((ones, ones), (cirq.ms(-angle),))
    whole = _is(abs(angle), _QUARTER)
    if native == "cz":
        if whole:
            after = _H @ (_SDG if angle > 0 else _S)
            return PairCircuit(((_H, _H), (after, after)), (cirq.CZ,))
        return PairCircuit(((_ONE, _H), (_turn(cirq.X, angle), _ONE), (_ONE, _H)), (cirq.CZ,) * 2)
    if whole:
        return _roots_of_whole(0.0).between(ones, ones if angle > 0 else (_X, _X))
    return _roots_of_one(angle)


def _canonical(coefficients: Coefficients, native: NativeGates) -> PairCircuit:
    """exp(i(x XX + y YY + z ZZ)) of canonical coefficients."""
    x, y, z = coefficients
    if _is(y, 0):
        return _xx(x, native)
    if native == "cz":
        return _two_czs(x, y) if _is(z, 0) else _three_czs(x, y, z)
    if native == "ms":
        return _ion_gates(x, y, z)
    roots = native_count(coefficients, native)
    if roots == 3:
        return _three_roots(x, y, z)
    if roots == 1:
        return PairCircuit(((_ONE, _ONE),) * 2, (cirq.SQRT_ISWAP,))
    return _roots_of_whole(y) if _is(x, _QUARTER) and _is(z, 0) else _two_roots(x, y, z)


def _two_czs(x: float, y: float) -> PairCircuit:
    """CX takes X to XX and Z of its target to ZZ; a quarter turn about X takes that to YY."""
    ahead, behind = _turn(cirq.X, -np.pi / 4), _turn(cirq.X, np.pi / 4)
    inner = (_turn(cirq.X, x), _turn(cirq.X, y))
    return PairCircuit(((ahead, _H @ ahead), inner, (behind, behind @ _H)), (cirq.CZ,) * 2)


def _three_czs(x: float, y: float, z: float) -> PairCircuit:
    """Vatan and Williams, figure 6, with CX as CZ between two H."""
    quarter = np.pi / 4
    turns = (
        (_H, _turn(cirq.Z, quarter)),
        (_turn(cirq.Z, z - quarter) @ _H, _H @ _turn(cirq.Y, quarter - x)),
        (_H, _turn(cirq.Y, y - quarter) @ _H),
        (_turn(cirq.Z, -quarter) @ _H, _ONE),
    )
    return PairCircuit(turns, (cirq.CZ,) * 3)


def _ion_gates(x: float, y: float, z: float) -> PairCircuit:
    """A term XX for each coefficient, in the frame of its axis."""
    found = _xx(x, "ms")
    for angle, pauli in ((y, cirq.Z), (z, cirq.Y)):
        ahead, behind = _turn(pauli, np.pi / 4), _turn(pauli, -np.pi / 4)
        if not _is(angle, 0):
            found = found.then(_xx(angle, "ms").between((ahead, ahead), (behind, behind)))
    return found


def _roots_of_one(x: float) -> PairCircuit:
    """exp(ix XX) from √iSWAP · (Z ⊗ exp(−i·half·X)) · √iSWAP = Z · exp(−i·half·(X + YZ)/√2), see ``_roots_of_whole`` for the rest."""
    half = float(np.arcsin(np.clip(np.sqrt(2) * np.sin(abs(x)), -1, 1)))
    rest = _turn(cirq.X, np.arctan2(np.sin(half) / np.sqrt(2), np.cos(half)) / 2)
    z = cirq.unitary(cirq.Z)
    # Frames: Y of the first qubit and Z of the second become X.
    first = _turn(cirq.Z, np.pi / 4)
    flip = _X if x > 0 else _ONE
    core = PairCircuit(((_ONE, rest), (z, _turn(cirq.X, -half)), (z, rest)), (cirq.SQRT_ISWAP,) * 2)
    return core.between((first, flip @ _H), (first.conj(), _H @ flip))


def _roots_of_whole(y: float) -> PairCircuit:
    """exp(i(π/4 XX + y YY)): between two √iSWAP their XX adds up, and exp(−i·half·X) of one qubit takes from their YY."""
    half = float(np.arccos(np.clip(np.sqrt(2) * np.sin(y), -1, 1)))
    rest = _turn(cirq.X, np.arctan2(np.sin(half), np.cos(half) / np.sqrt(2)) / 2)
    return PairCircuit(((_ONE, rest), (_ONE, _turn(cirq.X, -half)), (_ONE, rest)), (cirq.SQRT_ISWAP,) * 2)


def _two_roots(x: float, y: float, z: float) -> PairCircuit:
    """Huang et al., algorithm 1: inner rotations that give the class, and then what turns that into the canonical gate."""
    cosine, sine = np.cos(2 * np.array([x, y, z])), np.sin(np.array([x + y - z, x - y + z, -x - y - z, -x + y + z]))
    middle, spread = cosine[0] - cosine[1] + cosine[2], 2 * np.sqrt(max(np.prod(sine), 0.0))
    alpha, beta = np.arccos(np.clip([middle + spread, middle - spread], -1, 1))
    square = 4 * (np.cos(x) * np.cos(z) * np.sin(y)) ** 2
    gamma = np.arccos((-1 if z < 0 else 1) * np.sqrt(square / (square + max(np.prod(cosine), 0.0))))
    outer = _turn(cirq.Z, gamma / 2)
    inner = (outer @ _turn(cirq.X, alpha / 2) @ outer, _turn(cirq.X, beta / 2))
    core = PairCircuit(((_ONE, _ONE), inner, (_ONE, _ONE)), (cirq.SQRT_ISWAP,) * 2)
    found = interaction(core.unitary())
    before, after = ((first.conj().T, second.conj().T) for first, second in (found.before, found.after))
    return core.between(before, after)


def _three_roots(x: float, y: float, z: float) -> PairCircuit:
    """Huang et al., algorithm 1: coefficients add up, and one gate takes away so much that two are enough for the rest."""
    eighth = np.pi / 8
    one = np.array([0.0, eighth, eighth if z >= 0 else -eighth] if y > eighth else [-eighth, eighth, 0.0])
    first, second = (synthesise(_exponential(some), "sqrt-iswap") for some in (one, np.array([x, y, z]) - one))
    return first.then(second)


def _exponential(coefficients: np.ndarray) -> np.ndarray:
    """exp(i(x XX + y YY + z ZZ)), whose terms commute."""
    found = np.eye(4)
    for angle, pauli in zip(coefficients, (cirq.X, cirq.Y, cirq.Z), strict=True):
        found = found @ (np.cos(angle) * np.eye(4) + 1j * np.sin(angle) * np.kron(cirq.unitary(pauli), cirq.unitary(pauli)))
    return found
