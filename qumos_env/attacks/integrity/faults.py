"""What a faulty or dishonest provider does to the part it runs, and the circuits that can show it.

Every fixed gate gets an exponent (1 as designed, 0 dropped), and the outer qubits of a part turn about X and Z by an extra
angle behind every moment (0 undisturbed). So one compiled circuit serves every fault, and many models with different faults
run side by side. With gate cuts, a provider that treats all variants alike acts on the uncut circuit in the same way, because
a cut is linear in either side; the angle of a cut gate stays the owner's and is out of a provider's reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cirq
import numpy as np
import sympy

from ...design import Design
from ...design.circuits import Fragment, joint_fragments, weight_symbol
from ...design.encodings import axis_called
from ...model.stack import CircuitStack

_Circuit = Callable[[np.ndarray, "Seat", float, np.random.Generator], np.ndarray]
_Results = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
_Hardware = Callable[[float, float], float]


@dataclass(frozen=True, eq=False)
class Seat:
    """What one provider can reach: numbers of its qubits, and of angles of the exposed circuits.

    Attributes:
        qubits: of the register, ascending.
        trained: the trained angles of its parts.
        fixed: the exponents of the fixed gates of its parts.
        crosstalk: the extra angles of the outer qubits of its parts.
    """

    qubits: np.ndarray
    trained: np.ndarray
    fixed: np.ndarray
    crosstalk: np.ndarray


class ExposedCircuits:
    """The circuits of a design with an angle for everything that a fault may change.

    Gates that hold inputs (encoding and re-uploading) cannot be dropped.

    Args:
        design: the design.
        axis: rotation axis of the encoding.

    Attributes:
        fragments: what is simulated, as ``joint_fragments``; the trained angles keep their numbers, the extra ones follow.
        stack: the fragments, ready to run.
        seats: provider -> what it can reach.
    """

    def __init__(self, design: Design, axis: str) -> None:
        self._design = design
        self._extra: list[tuple[str, str]] = []  # kind and provider of every extra angle
        fragments = []
        for fragment in joint_fragments(design, axis):
            first = design.n_trainable + len(self._extra)
            circuit = self._expose(fragment, encoding=axis_called(axis).depth)
            added = range(first, design.n_trainable + len(self._extra))
            fragments.append(Fragment(fragment.qubits, (*fragment.weights, *added), circuit))
        self.fragments = tuple(fragments)
        self.stack = CircuitStack(fragments, design.n_qubits)
        self.seats = {provider: self._seat(provider) for provider in dict.fromkeys(design.assignment)}

    def honest(self, angles: np.ndarray) -> np.ndarray:
        """Angles of the exposed circuits ``[M, all]`` that change nothing, for trained ``angles`` ``[M, n_trainable]``."""
        extra = np.array([1.0 if kind == "fixed" else 0.0 for kind, _ in self._extra])
        return np.concatenate([angles, np.broadcast_to(extra, (len(angles), len(extra)))], axis=1)

    @property
    def homes(self) -> tuple[int, ...]:
        """The part of every qubit."""
        return self._design.partition

    @property
    def providers(self) -> tuple[str, ...]:
        """The provider that runs each qubit."""
        return tuple(self._design.assignment[part] for part in self._design.partition)

    def _expose(self, fragment: Fragment, encoding: int) -> cirq.Circuit:
        """``fragment`` with its exponents and extra turns, behind ``encoding`` moments that nobody can drop."""
        parts = [part for part in self._design.parts if set(part.qubits) <= set(fragment.qubits)]
        outer = sorted({qubit for part in parts for qubit in (part.qubits[0], part.qubits[-1])})
        # One angle per qubit and axis for all moments: the neighbour is driven in the same way all the time.
        turns = []
        if len(fragment.circuit) > encoding:
            for qubit in outer:
                place = cirq.LineQubit(qubit)
                for rotation in (cirq.rx, cirq.rz):
                    # No gate of the victim's: the hardware's noise stands behind those alone.
                    turns.append(rotation(self._symbol("crosstalk", qubit)).on(place).with_tags(cirq.VirtualTag()))
        exposed = cirq.Circuit()
        for depth, moment in enumerate(fragment.circuit):
            exposed.append(operation if depth < encoding else self._droppable(operation) for operation in moment)
            if depth >= encoding:
                exposed.append(turns)
        return exposed

    def _droppable(self, operation: cirq.Operation) -> cirq.Operation:
        if cirq.is_parameterized(operation):
            return operation
        (qubit, *_) = operation.qubits
        assert isinstance(qubit, cirq.LineQubit)
        return operation ** self._symbol("fixed", qubit.x)

    def _symbol(self, kind: str, qubit: int) -> sympy.Symbol:
        self._extra.append((kind, self.providers[qubit]))
        return sympy.Symbol(weight_symbol(self._design.n_trainable + len(self._extra) - 1))

    def _seat(self, provider: str) -> Seat:
        design = self._design
        own = {part.index for part in design.held_by(provider)}

        def inside(qubits: tuple[int, ...]) -> bool:
            homes = {design.partition[qubit] for qubit in qubits}
            return len(homes) == 1 and homes <= own

        trainable = [placed.gate for placed in design.placed_gates if placed.gate.trainable]

        def extra(kind: str) -> np.ndarray:
            return np.flatnonzero([item == (kind, provider) for item in self._extra]) + design.n_trainable

        return Seat(
            np.flatnonzero([home in own for home in design.partition]),
            np.flatnonzero([inside(gate.qubits) for gate in trainable]),
            extra("fixed"),
            extra("crosstalk"),
        )


@dataclass(frozen=True)
class Fault:
    """A way in which a provider deviates; strength 0 leaves everything as it is.

    Attributes:
        name: of the fault.
        meaning: what is done, and what the strength is.
        strengths: ascending, for curves.
        reference: the one of them that measurements are about.
        circuit: angles of the exposed circuits ``[all]`` of one model as the provider really runs them; default as they are.
        results: ⟨Z⟩ ``[rows, its qubits]`` as the provider returns it; default as measured.
        hardware: the factor on the promised error rates at which the provider really runs; default the honest one.
    """

    name: str
    meaning: str
    strengths: tuple[float, ...]
    reference: float
    circuit: _Circuit | None = None
    results: _Results | None = None
    hardware: _Hardware | None = None


def dropped_gates(angles: np.ndarray, seat: Seat, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Every gate left out with probability ``strength``."""
    gates = np.concatenate([seat.trained, seat.fixed])
    changed = angles.copy()
    changed[gates[generator.random(len(gates)) < strength]] = 0.0
    return changed


def swapped_angles(angles: np.ndarray, seat: Seat, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Trained angles, each chosen with probability ``strength``, exchange their gates at random."""
    chosen = seat.trained[generator.random(len(seat.trained)) < strength]
    changed = angles.copy()
    changed[chosen] = angles[generator.permutation(chosen)]
    return changed


def angle_errors(angles: np.ndarray, seat: Seat, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Normal errors of standard deviation ``strength`` radians on the trained angles."""
    changed = angles.copy()
    changed[seat.trained] += strength * generator.standard_normal(len(seat.trained))
    return changed


def crosstalk(angles: np.ndarray, seat: Seat, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Turns about X and Z of the outer qubits behind every moment, normal with standard deviation ``strength`` radians."""
    changed = angles.copy()
    changed[seat.crosstalk] += strength * generator.standard_normal(len(seat.crosstalk))
    return changed


def flipped(values: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Every value changes its sign with probability ``strength``."""
    return np.where(generator.random(values.shape) < strength, -values, values)


def scaled(values: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """All values shrunk by the fraction ``strength``."""
    return values * (1 - strength)


def shifted(values: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """``strength`` added to all values, within [-1, 1]."""
    return values if strength == 0 else np.clip(values + strength, -1, 1)


def replayed(values: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Every row answered with the values of the first one with probability ``strength``."""
    return np.where(generator.random((len(values), 1)) < strength, values[:1], values)


def worse(factor: float, strength: float) -> float:
    """Error rates of ``strength`` times the promised ones, where that is worse than the honest ``factor``."""
    return max(factor, strength)


_SHARES = (0.1, 0.25, 0.5, 1.0)
DROPPED_GATES = Fault("dropped gates", "gates left out with this probability", _SHARES, 0.25, circuit=dropped_gates)
SWAPPED_ANGLES = Fault("swapped angles", "trained angles that exchange their gates, a share", _SHARES, 0.25, circuit=swapped_angles)
ANGLE_ERRORS = Fault(
    "angle errors", "standard deviation of errors on the trained angles, radians", (0.03, 0.1, 0.2, 0.4, 0.8), 0.4, circuit=angle_errors
)
FLIPPED_RESULTS = Fault("flipped results", "values of changed sign, a share", _SHARES, 0.25, results=flipped)
SCALED_RESULTS = Fault("scaled results", "values shrunk by this fraction", _SHARES, 0.5, results=scaled)
SHIFTED_RESULTS = Fault("shifted results", "added to all values", _SHARES, 0.5, results=shifted)
REPLAYED_RESULTS = Fault("replayed results", "queries answered with an old result, a share", _SHARES, 0.25, results=replayed)
TAMPERING = (DROPPED_GATES, SWAPPED_ANGLES, ANGLE_ERRORS, FLIPPED_RESULTS, SCALED_RESULTS, SHIFTED_RESULTS, REPLAYED_RESULTS)
CROSSTALK = Fault(
    "crosstalk", "standard deviation of the turn per moment of outer qubits, radians", (0.02, 0.05, 0.1, 0.2), 0.2, circuit=crosstalk
)
WORSE_HARDWARE = Fault("worse hardware", "error rates as a multiple of the promised ones", (2.0, 5.0, 10.0), 5.0, hardware=worse)
