"""Encoded input states: what all simulation routes start from."""

from __future__ import annotations

import numpy as np

from ..errors import QumosError
from .program import InputRotation, Program

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


def product_states(program: Program, inputs: np.ndarray) -> np.ndarray:
    """The encoded product states complex128 ``[2**n, B]`` of ``inputs`` ``[B, inputs]`` in radians."""
    size = len(inputs)
    states = np.ones((1, size), complex)
    for leading in program.encoding:
        qubit_state = np.zeros((2, size), complex)
        qubit_state[0] = 1
        for item in leading:
            if isinstance(item, InputRotation):
                qubit_state = rotate_samples(qubit_state.reshape(1, 2, 1, size), item, inputs)[0, :, 0]
            else:
                qubit_state = (item.matrix if item.matrix is not None else NATIVE_MATRIX[item.name]) @ qubit_state
        states = (states[:, None] * qubit_state[None]).reshape(-1, size)
    return states


def rotate_samples(states: np.ndarray, rotation: InputRotation, inputs: np.ndarray, *, inverse: bool = False) -> np.ndarray:
    """Applies a per-sample rotation to ``states`` ``[high, 2, low, B]``, by the angles of ``inputs`` ``[B, inputs]``."""
    angle = (inputs[:, rotation.feature] * rotation.scale + rotation.offset) * (-0.5 if inverse else 0.5)
    matrix = np.cos(angle) * np.eye(2)[..., None] - 1j * np.sin(angle) * PAULI[rotation.axis][..., None]
    matrix = matrix.astype(states.dtype)
    zero, one = states[:, 0], states[:, 1]
    return np.stack([matrix[0, 0] * zero + matrix[0, 1] * one, matrix[1, 0] * zero + matrix[1, 1] * one], axis=1)
