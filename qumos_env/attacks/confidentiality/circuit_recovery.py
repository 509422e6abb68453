"""Recovering a trained circuit from its transpiled form.

A provider runs native circuits: the transpiler has merged, moved and re-decomposed the designer's gates, and the angles of encoding
and training are mixed in one-qubit gates. For a given query the unitary U of the native circuit is nevertheless known to whoever runs it,
up to a global phase. Three steps undo the transpilation (compare arXiv:2407.07237, where angles are recovered to about 1e-2):

1. *Encoding.* For two queries U₁†U₂ = E(x₁)†E(x₂), whatever was trained. If every input enters once, this is a product of one-qubit
   rotations: their axes are the encoding's, their angles the differences of the encoded inputs. (H followed by a rotation about Z is
   the same as a rotation about X followed by H, and is reported as X.)
2. *Black box.* W = U·E(x)† is the trained remainder, common to all queries.
3. *Re-synthesis.* The angles of a gate list, known or guessed, are fitted so that it gives U, by Levenberg-Marquardt with exact
   derivatives from several random starts. Angles are found up to the symmetries of the gate list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import cirq
import numpy as np
from scipy.optimize import least_squares

from ...design.circuits import Fragment, input_symbol, weight_symbol
from ...errors import unknown
from ...hardware.profile import NativeGates
from ...hardware.rewriting import rewritten
from ...simulation.states import PAULI

EXACT = 1e-5
"""Unitary distance below which two circuits count as the same; native circuits are synthesised to about 1e-8."""
GATESETS: tuple[NativeGates, ...] = ("cz", "sqrt-iswap")
_TRIALS = 60  # evaluations of one fit
_STALLED = 1e-3  # relative gain of a step below which a fit is given up: near an exact solution the gains are far larger


def native_circuit(
    fragment: Fragment, angles: np.ndarray, inputs: np.ndarray, gateset: str = "cz", resolution: float = 0.0
) -> cirq.Circuit:
    """What the provider of ``fragment`` is sent for one query: bound, optimised, in native gates; no routing.

    Args:
        fragment: a piece of the design.
        angles: of the whole design, ``[n_trainable]`` in radians.
        inputs: encoded angles of the register, ``[n_qubits]``.
        gateset: ``cz`` or ``sqrt-iswap``, each with PhasedXZ gates.
        resolution: radians to which the control electronics round the angles of PhasedXZ gates; 0 keeps them exact.

    Raises:
        QumosError: no such gate set.
    """
    chosen = next((one for one in GATESETS if one == gateset), None)
    if chosen is None:
        raise unknown("native gate set", gateset, GATESETS)
    values = {weight_symbol(index): float(angles[index]) for index in fragment.weights}
    values |= {input_symbol(qubit): float(inputs[qubit]) for qubit in fragment.qubits}
    native = cirq.Circuit(rewritten(cirq.resolve_parameters(fragment.circuit, values), chosen))
    return cirq.map_operations(native, lambda operation, _: _rounded(operation, resolution / np.pi)) if resolution else native


def _rounded(operation: cirq.Operation, step: float) -> cirq.Operation:
    gate = operation.gate
    if not isinstance(gate, cirq.PhasedXZGate):
        return operation
    x, z, axis = (step * round(float(value) / step) for value in (gate.x_exponent, gate.z_exponent, gate.axis_phase_exponent))
    return cirq.PhasedXZGate(x_exponent=x, z_exponent=z, axis_phase_exponent=axis).on(*operation.qubits)


def circuit_unitary(circuit: cirq.AbstractCircuit, qubits: Sequence[int]) -> np.ndarray:
    """The unitary of ``circuit`` on the line qubits numbered ``qubits``, the first most significant."""
    line = [cirq.LineQubit(qubit) for qubit in qubits]
    return circuit.unitary(qubit_order=line, qubits_that_should_be_present=line)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """√(1 − |Tr(U†V)|²/d²) of two unitaries, in [0, 1]: 0 when they agree up to a global phase."""
    overlap = abs(np.vdot(one, other)) / len(one)
    return float(np.sqrt(max(0.0, 1.0 - overlap**2)))


@dataclass(frozen=True, eq=False)
class Encoding:
    """How inputs enter a fragment, as read off two queries.

    Attributes:
        axes: per qubit ``X``, ``Y`` or ``Z``, or ``?`` where the two queries agree.
        differences: encoded angle of the second query less that of the first, float ``[qubits]``, radians from -pi to pi.
        local: whether rotations of single qubits explain all of the difference; not so when inputs enter more than once.
    """

    axes: str
    differences: np.ndarray
    local: bool

    def unitary(self, angles: np.ndarray) -> np.ndarray:
        """E of the encoded ``angles`` ``[qubits]``."""
        return reduce(np.kron, (_rotation(axis, angle) for axis, angle in zip(self.axes, angles, strict=True)))

    def states(self, angles: np.ndarray) -> np.ndarray:
        """E|0…0⟩ for rows of encoded ``angles`` ``[rows, qubits]``: complex ``[rows, 2**qubits]``."""
        states = np.ones((len(angles), 1), complex)
        for axis, column in zip(self.axes, angles.T, strict=True):
            qubit = np.stack([_rotation(axis, angle)[:, 0] for angle in column])
            states = (states[:, :, None] * qubit[:, None, :]).reshape(len(angles), -1)
        return states


def read_encoding(first: np.ndarray, second: np.ndarray, tolerance: float = EXACT) -> Encoding:
    """The encoding, from the unitaries of two queries with different inputs, known to ``tolerance`` in ``distance``."""
    change = first.conj().T @ second
    n_qubits = len(change).bit_length() - 1
    axes, differences = "", []
    for qubit in range(n_qubits):
        factor = _factor(change, qubit, n_qubits)
        cosine, parts = np.trace(factor), {axis: np.trace(factor @ PAULI[axis]) for axis in "XYZ"}
        axis = max(parts, key=lambda name: abs(parts[name]))
        # A multiple of cos(δ/2) − i sin(δ/2) P, also where one of the two is 0.
        sign = np.copysign(1.0, (1j * parts[axis] * np.conj(cosine)).real)
        difference = 2 * sign * np.arctan2(abs(parts[axis]), abs(cosine))
        axes += axis if abs(difference) > tolerance else "?"
        differences.append(difference)
    encoding = Encoding(axes, np.array(differences), True)
    return Encoding(axes, encoding.differences, distance(encoding.unitary(encoding.differences), change) < tolerance)


def _rotation(axis: str, angle: float) -> np.ndarray:
    pauli = PAULI.get(axis, np.eye(2))
    return np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * pauli if axis in PAULI else np.eye(2, dtype=complex)


def _factor(matrix: np.ndarray, qubit: int, n_qubits: int) -> np.ndarray:
    """What ``matrix`` does to one qubit, ``[2, 2]`` up to a factor, if it is a product of one-qubit matrices."""
    tensor = np.moveaxis(matrix.reshape([2] * (2 * n_qubits)), (qubit, n_qubits + qubit), (0, 1))
    return np.linalg.svd(tensor.reshape(4, -1), full_matrices=False)[0][:, 0].reshape(2, 2)


@dataclass(frozen=True, eq=False)
class Fit:
    """A re-synthesis.

    Attributes:
        angles: of the gate list, float ``[weights of the fragment]`` in radians.
        distance: to the unitaries fitted, the mean over queries, see ``distance``.
        identifiable: bool ``[weights]``: whether a small change of the angle shows, whatever the others do.
    """

    angles: np.ndarray
    distance: float
    identifiable: np.ndarray


class GateList:
    """The gates of a fragment as matrices, with the derivative of its unitary by every trainable angle.

    Args:
        fragment: encoding and gates; every parametrised gate is exp(−i·angle/2·P) with P² = 1, up to a global phase.
    """

    def __init__(self, fragment: Fragment) -> None:
        self.qubits = fragment.qubits
        self.n_angles = len(fragment.weights)
        place = {weight_symbol(weight): number for number, weight in enumerate(fragment.weights)}
        inputs = {input_symbol(qubit): number for number, qubit in enumerate(fragment.qubits)}
        self._steps: list[tuple[int | None, int | None, np.ndarray]] = []  # weight, input, fixed matrix or P
        for operation in fragment.circuit.all_operations():
            names = cirq.parameter_names(operation)
            if not names:
                self._steps.append((None, None, self._matrix(operation)))
                continue
            (name,) = names
            # exp(−iπ/2·P) = −iP; a global phase of the gate would only turn the fitted phase.
            pauli = 1j * self._matrix(cirq.resolve_parameters(operation, {name: np.pi}))
            self._steps.append((place.get(name), inputs.get(name), pauli))

    def _matrix(self, operation: cirq.Operation) -> np.ndarray:
        return circuit_unitary(cirq.Circuit(operation), self.qubits)

    @cached_property
    def _identity(self) -> np.ndarray:
        return np.eye(2 ** len(self.qubits), dtype=complex)

    def _matrices(self, angles: np.ndarray, inputs: np.ndarray) -> list[np.ndarray]:
        matrices = []
        for weight, feature, matrix in self._steps:
            if weight is None and feature is None:
                matrices.append(matrix)
            else:
                half = (angles[weight] if weight is not None else inputs[feature]) / 2
                matrices.append(np.cos(half) * self._identity - 1j * np.sin(half) * matrix)
        return matrices

    def unitary(self, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """For ``angles`` ``[weights of the fragment]`` and the fragment's encoded ``inputs`` ``[qubits]``."""
        return reduce(lambda done, matrix: matrix @ done, self._matrices(angles, inputs), self._identity)

    def derivatives(self, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """∂U/∂angle, ``[weights of the fragment, d, d]``."""
        matrices = self._matrices(angles, inputs)
        before = [self._identity]
        for matrix in matrices:
            before.append(matrix @ before[-1])
        slopes = np.zeros((self.n_angles, *self._identity.shape), complex)
        after = self._identity
        for number in range(len(matrices) - 1, -1, -1):
            weight, _, pauli = self._steps[number]
            if weight is not None:
                slopes[weight] += after @ (-0.5j * pauli) @ before[number + 1]
            after = after @ matrices[number]
        return slopes

    def fit(
        self,
        unitaries: Sequence[np.ndarray],
        inputs: Sequence[np.ndarray],
        restarts: int,
        generator: np.random.Generator,
        tolerance: float = EXACT,
    ) -> Fit:
        """Angles for which the gate list gives ``unitaries``, each up to its phase, for the queries ``inputs``.

        The best of ``restarts`` random starts, or the first that comes within ``tolerance``.
        """
        best: Fit | None = None
        for _ in range(restarts):
            start = np.concatenate([generator.uniform(-np.pi, np.pi, self.n_angles), np.zeros(len(unitaries))])
            found = self._polished(start, unitaries, inputs)
            if best is None or found.distance < best.distance:
                best = found
            if best.distance < tolerance:
                break
        assert best is not None
        return best

    def _polished(self, start: np.ndarray, unitaries: Sequence[np.ndarray], inputs: Sequence[np.ndarray]) -> Fit:
        """One local fit; the phases of the unitaries are fitted along with the angles."""
        n_angles, queries = self.n_angles, range(len(unitaries))

        def residuals(values: np.ndarray) -> np.ndarray:
            angles, turns = values[:n_angles], np.exp(1j * values[n_angles:])
            rest = np.stack([turns[q] * self.unitary(angles, inputs[q]) - unitaries[q] for q in queries]).ravel()
            return np.concatenate([rest.real, rest.imag])

        def jacobian(values: np.ndarray) -> np.ndarray:
            angles, turns = values[:n_angles], np.exp(1j * values[n_angles:])
            slopes = np.zeros((len(values), len(unitaries), *self._identity.shape), complex)
            for q in queries:
                slopes[:n_angles, q] = turns[q] * self.derivatives(angles, inputs[q])
                slopes[n_angles + q, q] = 1j * turns[q] * self.unitary(angles, inputs[q])
            flat = slopes.reshape(len(values), -1)
            return np.concatenate([flat.real, flat.imag], axis=1).T

        # MINPACK's method needs as many residuals as unknowns.
        method = "lm" if 2 * len(unitaries) * self._identity.size >= len(start) else "trf"
        found = least_squares(residuals, start, jac=jacobian, method=method, max_nfev=_TRIALS, ftol=_STALLED)
        angles = found.x[:n_angles]
        apart = [distance(self.unitary(angles, inputs[q]), unitaries[q]) for q in queries]
        return Fit(angles, float(np.mean(apart)), _identifiable(jacobian(found.x))[:n_angles])


def _identifiable(jacobian: np.ndarray, tolerance: float = 1e-5) -> np.ndarray:
    """Which unknowns take no part in any direction along which the residuals stand still, to ``tolerance`` of the steepest."""
    squares, directions = np.linalg.eigh(jacobian.T @ jacobian)
    still = directions[:, squares <= tolerance**2 * squares.max()]
    return np.linalg.norm(still, axis=1) < 1e-3


def angle_errors(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Distances of angles in radians, up to sign and half turns, in [0, pi/2]; pi/6 on average between random angles.

    Signs and half turns move through Clifford gates, so that a gate list gives the same unitary for several sets of angles.
    """

    def folded(difference: np.ndarray) -> np.ndarray:
        return np.abs((difference + np.pi / 2) % np.pi - np.pi / 2)

    return np.minimum(folded(found - true), folded(found + true))
