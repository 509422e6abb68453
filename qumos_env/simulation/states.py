"""Encoded input states: what all simulation routes start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import QumosError
from .program import Fixed, InputRotation, Program

PAULI = {
    "X": np.array([[0, 1], [1, 0]], complex),
    "Y": np.array([[0, -1j], [1j, 0]], complex),
    "Z": np.array([[1, 0], [0, -1]], complex),
}
NATIVE_MATRIX = {
    "h": np.array([[1, 1], [1, -1]], complex) / np.sqrt(2),
    "cz": np.diag([1, 1, 1, -1]).astype(complex),
    "cx": np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], complex),
}


def gate_matrix(gate: Fixed) -> np.ndarray:
    """The matrix of ``gate``, complex128 ``[2**k, 2**k]``."""
    return gate.matrix if gate.matrix is not None else NATIVE_MATRIX[gate.name]


def checked_weights(weights: np.ndarray, count: int) -> np.ndarray:
    """``weights`` as float64 ``[count]``; raises QumosError on another shape, NaN or infinity."""
    weights = np.asarray(weights, np.float64)
    if weights.shape != (count,):
        raise QumosError(f"weights: shape [{count}] needed, got {list(weights.shape)}")
    if not np.isfinite(weights).all():
        raise QumosError(f"weights: value {np.argwhere(~np.isfinite(weights))[0, 0]} is not finite")
    return weights


def checked_inputs(inputs: np.ndarray, n_inputs: int) -> np.ndarray:
    """``inputs`` as float64 ``[B, n_inputs]``; raises QumosError on another shape, an empty batch, NaN or infinity."""
    inputs = np.asarray(inputs, np.float64)
    if inputs.ndim != 2 or inputs.shape[1] != n_inputs:
        raise QumosError(f"inputs: shape [batch, {n_inputs}] needed, got {list(inputs.shape)}")
    if len(inputs) == 0:
        raise QumosError("inputs: the batch is empty")
    if not np.isfinite(inputs).all():
        row, column = np.argwhere(~np.isfinite(inputs))[0]
        raise QumosError(f"inputs: value at row {row}, column {column} is not finite")
    return inputs


def checked_amplitudes(amplitudes: np.ndarray, n_qubits: int) -> np.ndarray:
    """``amplitudes`` as float64 ``[B, 2**n_qubits]``; raises QumosError on another shape, an empty batch, rows not of unit length."""
    amplitudes = np.asarray(amplitudes, np.float64)
    if amplitudes.ndim != 2 or amplitudes.shape[1] != 2**n_qubits:
        raise QumosError(f"inputs: amplitudes of shape [batch, {2**n_qubits}] needed, got {list(amplitudes.shape)}")
    if len(amplitudes) == 0:
        raise QumosError("inputs: the batch is empty")
    if not np.allclose(np.sum(amplitudes**2, axis=1), 1.0, atol=1e-4):
        raise QumosError("inputs: every row of amplitudes must have length 1 and be finite")
    return amplitudes


def checked_bits(bits: np.ndarray, n_qubits: int) -> np.ndarray:
    """``bits`` as float64 ``[B, n_qubits]`` of 0 and 1; raises QumosError on other values, another shape or an empty batch."""
    bits = checked_inputs(bits, n_qubits)
    if not np.isin(bits, (0.0, 1.0)).all():
        row, column = np.argwhere(~np.isin(bits, (0.0, 1.0)))[0]
        raise QumosError(f"inputs: {bits[row, column]:g} at row {row}, column {column} is no bit, basis encoding takes 0 and 1")
    return bits


def product_states(program: Program, inputs: np.ndarray) -> np.ndarray:
    """The encoded product states complex128 ``[2**n, B]`` of ``inputs`` ``[B, inputs]`` in radians."""
    return product_state(program.encoding, inputs)


def product_state(encoding: Sequence[Sequence[Fixed | InputRotation]], inputs: np.ndarray) -> np.ndarray:
    """As ``product_states``, for the one-qubit instructions of every qubit."""
    size = len(inputs)
    states = np.ones((1, size), complex)
    for leading in encoding:
        qubit_state = np.zeros((2, size), complex)
        qubit_state[0] = 1
        for item in leading:
            if isinstance(item, InputRotation):
                qubit_state = rotate_samples(qubit_state.reshape(1, 2, 1, size), item, inputs)[0, :, 0]
            else:
                qubit_state = gate_matrix(item) @ qubit_state
        states = (states[:, None] * qubit_state[None]).reshape(-1, size)
    return states


def rotation_matrices(rotation: InputRotation, inputs: np.ndarray, *, inverse: bool = False) -> np.ndarray:
    """The 2×2 matrices complex128 ``[2, 2, B]`` of a per-sample rotation, by the angles of ``inputs`` ``[B, inputs]``."""
    angle = (inputs[:, rotation.feature] * rotation.scale + rotation.offset) * (-0.5 if inverse else 0.5)
    return np.cos(angle) * np.eye(2)[..., None] - 1j * np.sin(angle) * PAULI[rotation.axis][..., None]


def rotate_samples(states: np.ndarray, rotation: InputRotation, inputs: np.ndarray, *, inverse: bool = False) -> np.ndarray:
    """Applies a per-sample rotation to ``states`` ``[high, 2, low, B]``, by the angles of ``inputs`` ``[B, inputs]``."""
    matrix = rotation_matrices(rotation, inputs, inverse=inverse).astype(states.dtype)
    zero, one = states[:, 0], states[:, 1]
    return np.stack([matrix[0, 0] * zero + matrix[0, 1] * one, matrix[1, 0] * zero + matrix[1, 1] * one], axis=1)
