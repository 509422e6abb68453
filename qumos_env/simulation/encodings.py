"""What noisy circuits start from: encoded inputs as density matrices, and gradients with respect to those inputs.

A density matrix of n qubits is a vector of 4**n: index (row bits, column bits), as in ``channels``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .channels import Channel, LocalStep, superoperator
from .instructions import Fixed, InputRotation
from .states import PAULI, ProductStates, checked_amplitudes, checked_inputs, gate_matrix, rotation_matrices


class Encoding(Protocol):
    """Inputs to initial density matrices."""

    pure: bool
    """Whether these are projectors on state vectors, for every input."""

    def checked(self, inputs: np.ndarray) -> np.ndarray:
        """``inputs`` as float64 ``[B, inputs]``; raises QumosError where they do not fit."""

    def vectors(self, inputs: np.ndarray) -> np.ndarray:
        """State vectors complex64 ``[2**n, B]`` of a ``pure`` encoding."""

    def densities(self, inputs: np.ndarray) -> np.ndarray:
        """Density matrices complex64 ``[4**n, B]``."""

    def gradient(self, inputs: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """∂/∂inputs float64 ``[B, inputs]`` of Tr(ρΛ) per sample; Λ = ``effects`` ``[4**n, B]``."""


class AmplitudeEncoding:
    """Inputs ``[B, 2**n]`` are real amplitudes of unit length; the gradient takes each as free."""

    pure = True

    def __init__(self, n_qubits: int) -> None:
        self._n_qubits = n_qubits

    def checked(self, inputs: np.ndarray) -> np.ndarray:
        """See ``Encoding``."""
        return checked_amplitudes(inputs, self._n_qubits)

    def vectors(self, inputs: np.ndarray) -> np.ndarray:
        """See ``Encoding``."""
        return np.ascontiguousarray(inputs.T, np.complex64)

    def densities(self, inputs: np.ndarray) -> np.ndarray:
        """See ``Encoding``."""
        return _projectors(self.vectors(inputs))

    def gradient(self, inputs: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """See ``Encoding``."""
        size = 2**self._n_qubits
        return 2 * np.einsum("ijb,bj->bi", effects.reshape(size, size, -1).real, inputs).astype(np.float64)


class ProductEncoding:
    """Every qubit starts in a state of its own, made by gates, channels and input rotations on this qubit alone.

    Args:
        steps: per qubit, in order.
        n_inputs: number of inputs per sample.
    """

    def __init__(self, steps: Sequence[Sequence[LocalStep]], n_inputs: int) -> None:
        self._steps = [[step if isinstance(step, InputRotation) else _matrix(step) for step in mine] for mine in steps]
        self._n_inputs = n_inputs
        self._states = ProductStates([[step for step in mine if not isinstance(step, Channel)] for mine in steps])
        self.pure = not any(isinstance(step, Channel) for mine in steps for step in mine)

    def checked(self, inputs: np.ndarray) -> np.ndarray:
        """See ``Encoding``."""
        return checked_inputs(inputs, self._n_inputs)

    def vectors(self, inputs: np.ndarray) -> np.ndarray:
        """See ``Encoding``."""
        return self._states(inputs).astype(np.complex64)

    def densities(self, inputs: np.ndarray) -> np.ndarray:
        """See ``Encoding``."""
        if self.pure:
            return _projectors(self.vectors(inputs))
        locals_ = [self._trace(mine, inputs)[-1].astype(np.complex64) for mine in self._steps]
        return _rests(locals_)[0].reshape(-1, len(inputs))

    def gradient(self, inputs: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """See ``Encoding``. Λ contracted with the states of all other qubits is what one qubit's steps are differentiated against."""
        traces = [self._trace(mine, inputs) for mine in self._steps]
        locals_ = [trace[-1].astype(np.complex64) for trace in traces]
        rests = _rests(locals_)
        size = 2 ** len(locals_)
        left = effects.reshape(size, size, -1)
        found = np.zeros((len(inputs), self._n_inputs))
        for steps, trace, local, rest in zip(self._steps, traces, locals_, rests[1:], strict=True):
            half = len(rest)
            split = left.reshape(2, half, 2, half, -1)
            effect = np.einsum("iajbc,abc->ijc", split, rest.conj()).astype(complex)
            left = np.einsum("iajbc,ijc->abc", split, local.conj())
            for step, state in zip(reversed(steps), reversed(trace[1:]), strict=True):
                if isinstance(step, InputRotation):
                    turned = np.einsum("ij,jkc->ikc", PAULI[step.axis], state)
                    found[:, step.feature] += step.scale * np.einsum("ijc,ijc->c", effect.conj(), turned).imag
                    matrices = rotation_matrices(step, inputs)
                    effect = np.einsum("jic,jkc,klc->ilc", matrices.conj(), effect, matrices, optimize=True)
                else:
                    effect = (step.conj().T @ effect.reshape(4, -1)).reshape(effect.shape)
        return found

    @staticmethod
    def _trace(steps: Sequence[np.ndarray | InputRotation], inputs: np.ndarray) -> list[np.ndarray]:
        """One qubit's density matrices ``[2, 2, B]`` before the first and behind every step."""
        state = np.zeros((2, 2, len(inputs)), complex)
        state[0, 0] = 1
        states = [state]
        for step in steps:
            if isinstance(step, InputRotation):
                matrices = rotation_matrices(step, inputs)
                states.append(np.einsum("ijc,jkc,lkc->ilc", matrices, states[-1], matrices.conj(), optimize=True))
            else:
                states.append((step @ states[-1].reshape(4, -1)).reshape(2, 2, -1))
        return states


def _matrix(step: Fixed | Channel) -> np.ndarray:
    """``[4, 4]`` on (row, column) of one qubit."""
    if isinstance(step, Channel):
        return step.matrix
    return superoperator([gate_matrix(step)])


def _projectors(vectors: np.ndarray) -> np.ndarray:
    return (vectors[:, None] * vectors.conj()[None]).reshape(-1, vectors.shape[1])


def _rests(locals_: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Entry k is the product state ``[2**m, 2**m, B]`` of the m qubits from k on, one more than there are qubits."""
    rests = [np.ones((1, 1, locals_[0].shape[-1]), np.complex64)]
    for local in reversed(locals_):
        size = 2 * len(rests[0])
        rests.insert(0, (local[:, None, :, None] * rests[0][None, :, None]).reshape(size, size, -1))
    return rests
