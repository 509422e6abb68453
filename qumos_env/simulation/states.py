"""Encoded input states: what all simulation routes start from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import QumosError
from .instructions import Fixed, InputRotation

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
    # Squares that add up to a finite number are finite, and that is a faster question.
    if not math.isfinite(weights.dot(weights)) and not np.isfinite(weights).all():
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


class ProductStates:
    """Every qubit in a state of its own, made from |0⟩ by gates and input rotations on this qubit alone.

    Args:
        encoding: per qubit its gates and rotations, in order.
    """

    def __init__(self, encoding: Sequence[Sequence[Fixed | InputRotation]]) -> None:
        depth = max(map(len, encoding), default=0)
        shape = (depth, len(encoding))
        # A gate is cos(θ/2)·cosine + sin(θ/2)·sine, a fixed gate and none at all one with θ = 0.
        cosine = np.tile(np.eye(2, dtype=complex), (*shape, 1, 1))
        sine = np.zeros((*shape, 2, 2), complex)
        feature, half_scale, half_offset = np.zeros(shape, np.intp), np.zeros((*shape, 1)), np.zeros((*shape, 1))
        for qubit, gates in enumerate(encoding):
            for step, gate in enumerate(gates):
                at = step, qubit
                if isinstance(gate, Fixed):
                    cosine[at] = gate_matrix(gate)
                else:
                    sine[at] = -1j * PAULI[gate.axis]
                    feature[at], half_scale[at], half_offset[at] = gate.feature, gate.scale / 2, gate.offset / 2
        self._start = np.zeros((len(encoding), 2, 1))
        self._start[:, 0] = 1
        self._turning = (half_scale != 0).any(axis=(1, 2)) | (half_offset != 0).any(axis=(1, 2))
        # Gates such as RY and H keep states real, which is half the work.
        self._cosine, self._sine = (matrices if matrices.imag.any() else matrices.real for matrices in (cosine, sine))
        self._feature, self._half_scale, self._half_offset = feature, half_scale, half_offset

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """The states ``[2**n, B]``, complex64 or where they are real float32, of ``inputs`` float64 ``[B, inputs]`` in radians."""
        return _product(self._steps(inputs)[-1], len(inputs))

    def gradient(self, inputs: np.ndarray, costates: np.ndarray) -> np.ndarray:
        """∂L/∂inputs float64 ``[B, inputs]`` for λ = ∂L/∂⟨ψ|, ``costates`` complex64 ``[2**n, B]``, behind the product states."""
        steps = self._steps(inputs)
        carried = _contracted(steps[-1], costates)
        found = np.zeros((inputs.shape[1], len(inputs)))
        for step in reversed(range(len(self._cosine))):
            cosine, sine = self._cosine[step], self._sine[step]
            back, turned = cosine.conj().swapaxes(1, 2) @ carried, sine.conj().swapaxes(1, 2) @ carried
            if self._turning[step]:
                # With sine = -iP, Im⟨λ|Pψ⟩ is Re⟨λ|sine·ψ⟩; ψ stands behind the gate.
                readings = np.sum(turned.conj() * steps[step + 1], axis=1).real
                np.add.at(found, self._feature[step], 2 * self._half_scale[step] * readings)
                half = self._half(inputs, step)
                back = np.cos(half)[:, None] * back + np.sin(half)[:, None] * turned
            carried = back
        return found.T

    def _half(self, inputs: np.ndarray, step: int) -> np.ndarray:
        """θ/2 of the gates of a step, ``[n, B]``."""
        half: np.ndarray = inputs.T[self._feature[step]] * self._half_scale[step] + self._half_offset[step]
        return half

    def _steps(self, inputs: np.ndarray) -> list[np.ndarray]:
        """The states of all qubits ``[n, 2, B]``, or ``[n, 2, 1]`` where no input has turned them: |0⟩, and those behind every step."""
        found = [self._start]
        for step, turning in enumerate(self._turning):
            still = self._cosine[step] @ found[-1]
            if turning:
                half = self._half(inputs, step)
                still = np.cos(half)[:, None] * still + np.sin(half)[:, None] * (self._sine[step] @ found[-1])
            found.append(still)
        found[-1] = found[-1].astype(np.complex64 if np.iscomplexobj(found[-1]) else np.float32)
        return found


def _product(qubits: np.ndarray, size: int) -> np.ndarray:
    """The product states ``[2**m, size]`` of m ``qubits`` ``[m, 2, size]``, or ``[m, 2, 1]`` alike for all."""
    states = np.ones((1, size), qubits.dtype)
    for qubit in qubits:
        states = (states[:, None] * qubit).reshape(-1, size)
    return states


def _contracted(qubits: np.ndarray, costates: np.ndarray) -> np.ndarray:
    """Of every qubit, ``costates`` ``[2**n, B]`` contracted with the states of all others: complex64 ``[n, 2, B]``."""
    size = costates.shape[1]
    rests = [np.ones((1, size), qubits.dtype)]  # Entry k is the product state of the last k qubits.
    for qubit in qubits[:0:-1]:
        rests.append((qubit[:, None] * rests[-1]).reshape(-1, size))
    found = np.empty((len(qubits), 2, size), np.complex64)
    for number, (qubit, rest) in enumerate(zip(qubits, reversed(rests), strict=True)):
        split = costates.reshape(2, -1, size)
        np.einsum("irb,rb->ib", split, rest.conj(), out=found[number])
        costates = np.einsum("irb,ib->rb", split, np.broadcast_to(qubit.conj(), (2, size)))
    return found


def rotation_matrices(rotation: InputRotation, inputs: np.ndarray, *, inverse: bool = False) -> np.ndarray:
    """The 2×2 matrices complex128 ``[2, 2, B]`` of a per-sample rotation, by the angles of ``inputs`` ``[B, inputs]``."""
    angle = (inputs[:, rotation.feature] * rotation.scale + rotation.offset) * (-0.5 if inverse else 0.5)
    return np.cos(angle) * np.eye(2)[..., None] - 1j * np.sin(angle) * PAULI[rotation.axis][..., None]


def rotate_samples(states: np.ndarray, rotation: InputRotation, inputs: np.ndarray, *, inverse: bool = False) -> np.ndarray:
    """Applies a per-sample rotation to ``states`` ``[high, 2, low, B]``, by the angles of ``inputs`` ``[B, inputs]``."""
    matrix = rotation_matrices(rotation, inputs, inverse=inverse).astype(states.dtype)
    zero, one = states[:, 0], states[:, 1]
    return np.stack([matrix[0, 0] * zero + matrix[0, 1] * one, matrix[1, 0] * zero + matrix[1, 1] * one], axis=1)
