"""Two-qubit unitaries up to rotations of their qubits: U = (a₀⊗a₁) · exp(i(x XX + y YY + z ZZ)) · (b₀⊗b₁) up to a global phase.

The coefficients (x, y, z) of the canonical class decide how many native gates U takes (Zhang et al., quant-ph/0209120). They and the
rotations come from the eigenvectors of a symmetric matrix, and where eigenvalues coincide, as for every CZ, CX and swap, a linear-algebra
library returns whichever eigenvectors the last bits of its arithmetic lead to: different rotations, and so another number of native
gates, on another processor. Here every choice that the unitary leaves open is made by a rule whose outcome rounding cannot change.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import cirq
import numpy as np

SAME = 1e-7
"""Coefficients, eigenvalues and entries of rotations closer than this are one: far above rounding, far below what angles differ by."""

Coefficients = tuple[float, float, float]
Turns = tuple[np.ndarray, np.ndarray]
"""A unitary, shape (2, 2), for each qubit of a pair."""

# Columns: the Bell states, with phases that make rotations of single qubits real (Hill and Wootters, quant-ph/9703041).
_MAGIC = np.array([[1, 1j, 0, 0], [0, 0, 1j, 1], [0, 0, 1j, -1], [1, -1j, 0, 0]]) / np.sqrt(2)
# Of these states: their eigenvalues of XX, YY and ZZ.
_SIGNS = np.array([[1, -1, 1], [-1, 1, 1], [1, 1, -1], [-1, -1, -1]])
_ORDERS = np.array(list(permutations(range(4))))
_FLIPS = np.array(list(product((1.0, -1.0), repeat=4)))
# One of these mixtures of real and imaginary part has no two eigenvalues in common that are not.
_MIXTURES = (0.5, 1.2, 2.1, 2.9)


@dataclass(frozen=True)
class Interaction:
    """U = ``after`` · exp(i(x XX + y YY + z ZZ)) · ``before``, up to a global phase.

    Attributes:
        coefficients: x, y, z in radians, π/4 ≥ x ≥ y ≥ |z|, and z ≥ 0 where x is π/4; multiples of π/8 are exact.
        before, after: unitaries on the first and on the second qubit.
    """

    coefficients: Coefficients
    before: Turns
    after: Turns


def interaction(unitary: np.ndarray) -> Interaction:
    """The decomposition of ``unitary``, shape (4, 4), the first qubit its high bit; nearly equal unitaries have nearly equal ones."""
    magic = _MAGIC.conj().T @ unitary @ _MAGIC
    magic = magic / np.linalg.det(magic) ** 0.25
    squares, basis = _eigenbasis(magic)
    coefficients = _coefficients(squares)
    phases = _SIGNS @ coefficients
    right, swapped = _assigned(basis, squares, np.exp(2j * phases))
    left = np.real(magic @ right.T * np.exp(-1j * phases) * (-1j if swapped else 1))
    return Interaction(coefficients, _turns(right), _turns(left))


def class_of(unitary: np.ndarray) -> Coefficients:
    """The coefficients of ``interaction`` alone."""
    magic = _MAGIC.conj().T @ unitary @ _MAGIC
    return _coefficients(_eigenbasis(magic / np.linalg.det(magic) ** 0.25)[0])


def _eigenbasis(magic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, shape (4,), and real orthonormal eigenvectors, as rows, of the symmetric unitary matrix MᵀM."""
    symmetric = magic.T @ magic
    symmetric = (symmetric + symmetric.T) / 2

    def residual(vectors: np.ndarray) -> float:
        rotated = vectors.T @ symmetric @ vectors
        return float(np.abs(rotated - np.diag(np.diag(rotated))).max())

    found = [np.linalg.eigh(np.cos(mix) * symmetric.real + np.sin(mix) * symmetric.imag)[1] for mix in _MIXTURES]
    vectors = min(found, key=residual)
    values = np.diag(vectors.T @ symmetric @ vectors)
    basis = np.zeros((4, 4))
    near = np.abs(values[:, None] - values) < SAME
    near = np.linalg.matrix_power(near.astype(int), 3) > 0  # and what is near to what is near
    for index in range(4):
        if not near[index, :index].any():
            space = vectors[:, near[index]]
            basis[near[index]] = _axes(space @ space.T, space.shape[1])
    return values / np.abs(values), basis


def _axes(projector: np.ndarray, dimension: int) -> np.ndarray:
    """An orthonormal basis of the space that ``projector`` projects on: the longest projections of axes, of equal ones the first."""
    rows = []
    for _ in range(dimension):
        squares = np.diag(projector)
        row = projector[int(np.argmax(squares > squares.max() - SAME))]
        row = row / np.linalg.norm(row)
        projector = projector - np.outer(row, row)
        rows.append(row)
    return np.array(rows)


def _coefficients(squares: np.ndarray) -> Coefficients:
    """From the eigenvalues, which are exp(2i(±x ±y ±z)) in some order and up to a common sign."""
    phases = np.angle(squares) / 2
    # Each half angle is known up to π, their sum has to be a whole turn.
    phases[0] += np.pi * (round(phases.sum() / np.pi) % 2)
    found = phases @ _SIGNS / 4
    found -= np.pi / 2 * np.round(found / (np.pi / 2))
    eighths = np.round(found / (np.pi / 8)) * np.pi / 8
    found = np.where(np.abs(found - eighths) < SAME, eighths, found)
    x, y, z = sorted(found.tolist(), key=abs, reverse=True)
    # Signs change in pairs, and exp(iπ/2 XX) is a rotation of both qubits.
    z = abs(z) if abs(x) == np.pi / 4 or x * y * z >= 0 else -abs(z)
    return abs(x), abs(y), z


def _assigned(basis: np.ndarray, squares: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, bool]:
    """The eigenvectors in the order in which their eigenvalues are ``wanted``, as a rotation: of all the nearest to the identity.

    Also whether the eigenvalues had to change their sign, which a global phase of U does.
    """
    candidates = []
    for swapped in (False, True):
        values = -squares if swapped else squares
        fitting = _ORDERS[np.all(np.abs(values[_ORDERS] - wanted) < 10 * SAME, axis=1)]
        signed = (basis[fitting][:, None] * _FLIPS[:, :, None]).reshape(-1, 4, 4)
        candidates += [(one, swapped) for one in signed[np.linalg.det(signed) > 0]]
    # The largest entry decides, row by row; of entries that rounding may have made different, the next.
    rotations = np.array([one for one, _ in candidates])
    chosen = np.arange(len(candidates))
    for row, column in product(range(4), repeat=2):
        entries = rotations[chosen, row, column]
        chosen = chosen[entries > entries.max() - SAME]
    return candidates[int(chosen[0])]


def _turns(rotation: np.ndarray) -> Turns:
    _, first, second = cirq.kron_factor_4x4_to_2x2s(_MAGIC @ rotation @ _MAGIC.conj().T)
    return first, second
