"""Expectation values from a finite number of shots: seeded multinomial sampling of exact outcome probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import QumosError

if TYPE_CHECKING:
    from .adjoint import Observable

# Rows are the conjugated eigenvectors of the letter, that of +1 first.
_EIGENBASIS = {
    "X": np.array([[1, 1], [1, -1]]) / math.sqrt(2),
    "Y": np.array([[1, -1j], [1, 1j]]) / math.sqrt(2),
    "Z": np.eye(2),
}


def sampled_z(probabilities: np.ndarray, shots: int, generator: np.random.Generator) -> np.ndarray:
    """⟨Z⟩ of every qubit, estimated from ``shots`` measurements per row.

    Args:
        probabilities: of the outcomes, ``[rows, 2**n]``, most significant qubit first; rows are normalised here, since single
            precision leaves their sums a little off 1.
        shots: measurements per row; one set of shots serves all qubits, as on hardware.
        generator: source of the outcomes.

    Returns:
        float64 ``[rows, n]``.
    """
    counts = sampled_counts(probabilities, shots, generator)
    n_qubits = probabilities.shape[1].bit_length() - 1
    bits = (np.arange(2**n_qubits)[:, None] >> np.arange(n_qubits - 1, -1, -1)) & 1
    return counts @ (1 - 2 * bits) / shots


def check_shots(shots: int) -> None:
    """Raises QumosError where ``shots`` is below 1 or not whole."""
    if not isinstance(shots, (int, np.integer)) or shots < 1:
        raise QumosError(f"shots is {shots}, a whole number of at least 1 is needed")


def sampled_counts(probabilities: np.ndarray, shots: int, generator: np.random.Generator) -> np.ndarray:
    """How often each outcome is seen in ``shots`` measurements per row: int64 ``[rows, 2**n]`` from ``[rows, 2**n]``.

    Raises:
        QumosError: ``shots`` below 1 or not whole.
    """
    check_shots(shots)
    exact = np.maximum(probabilities.astype(np.float64), 0.0)
    return generator.multinomial(shots, exact / exact.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Measurement:
    """One way to measure the register, and what the observables make of the outcomes.

    Attributes:
        basis: the Pauli measured on each qubit, one letter per qubit.
        values: float64 ``[observables, 2**n]``: what each outcome adds to each observable.
    """

    basis: str
    values: np.ndarray


def measurements(observables: Sequence[Observable], n_qubits: int) -> tuple[Measurement, ...]:
    """The measurements whose mean values sum to the ``observables``.

    Pauli strings that agree on every qubit they share are measured together, first come first served (not the fewest groups).
    """
    groups: list[tuple[list[str], np.ndarray]] = []
    for row, observable in enumerate(observables):
        for letters, values in _measured_terms(observable, n_qubits):
            group = next((group for group in groups if _compatible(group[0], letters)), None)
            if group is None:
                group = ["I"] * n_qubits, np.zeros((len(observables), 2**n_qubits))
                groups.append(group)
            basis, totals = group
            basis[:] = [new if old == "I" else old for old, new in zip(basis, letters, strict=True)]
            totals[row] += values
    if not groups:
        return (Measurement("Z" * n_qubits, np.zeros((len(observables), 2**n_qubits))),)
    return tuple(Measurement("".join(basis).replace("I", "Z"), totals) for basis, totals in groups)


def _compatible(basis: Sequence[str], letters: str) -> bool:
    return all("I" in pair or pair[0] == pair[1] for pair in zip(basis, letters, strict=True))


def _measured_terms(observable: Observable, n_qubits: int) -> list[tuple[str, np.ndarray]]:
    """Letters (I where the term does not act) and the value of each outcome, for the diagonal and for every other term."""
    found = []
    diagonal = observable.diagonal.astype(np.float64)
    if diagonal.any():
        tensor = diagonal.reshape((2,) * n_qubits)
        letters = ("Z" if np.ptp(tensor, axis=qubit).any() else "I" for qubit in range(n_qubits))
        found.append(("".join(letters), diagonal))
    for source, factor in observable.terms:
        column = factor.ravel()
        term, flips = "", int(source[0])
        signs: np.ndarray = np.ones(1)
        for qubit in range(n_qubits):
            bit = 2 ** (n_qubits - 1 - qubit)
            changes = int((column[bit] / column[0]).real < 0)
            term += ("XY" if flips & bit else "IZ")[changes]
            signs = np.kron(signs, [1, 1] if term[-1] == "I" else [1, -1])
        # The first row of Y is (0, -i).
        coefficient = (column[0] / (-1j) ** term.count("Y")).real
        found.append((term, coefficient * signs))
    return found


def per_qubit(matrices: Sequence[np.ndarray], columns: np.ndarray) -> np.ndarray:
    """Applies one 2×2 matrix per qubit, most significant first, to ``columns`` ``[2**n, C]``."""
    shape = columns.shape
    for qubit, matrix in enumerate(matrices):
        columns = np.einsum("ij,ajb->aib", matrix, columns.reshape(2**qubit, 2, -1))
    return columns.reshape(shape)


def eigenbasis(basis: str, dtype: np.dtype | type = np.complex128) -> list[np.ndarray]:
    """The 2×2 rotation per qubit that turns the letters of ``basis`` to Z."""
    return [_EIGENBASIS[letter].astype(dtype) for letter in basis]


def pure_probabilities(states: np.ndarray, basis: str) -> np.ndarray:
    """Outcome probabilities ``[C, 2**n]`` of states ``[2**n, C]`` whose qubits are measured in ``basis``."""
    turned = per_qubit(eigenbasis(basis, states.dtype), states)
    return (turned.real**2 + turned.imag**2).T


def mixed_probabilities(states: np.ndarray, basis: str) -> np.ndarray:
    """Outcome probabilities ``[C, 2**n]`` of density matrices ``[4**n, C]`` (row bits first) measured in ``basis``."""
    rotations = eigenbasis(basis, states.dtype)
    if set(basis) != {"Z"}:
        states = per_qubit([*rotations, *(matrix.conj() for matrix in rotations)], states)
    size = 2 ** len(basis)
    # A copy: the diagonal is a view, which would keep the density matrices alive.
    return np.einsum("iic->ci", states.reshape(size, size, -1)).real.copy()
