"""Classical heads: how the owner turns ⟨Z⟩ of all qubits into class logits, with closed-form gradients.

The head decides whether a circuit matters: behind a trainable matrix (``linear``) an almost empty circuit already
classifies, behind ``scaled`` the circuit must do the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..errors import unknown

INITIAL_SCALE = 3.0


class Head(Protocol):
    """A map from ⟨Z⟩ ``[..., rows, qubits]`` to logits ``[..., rows, classes]`` with flat parameters ``[..., parameters]``.

    Leading axes number models that are trained side by side.
    """

    def initial(self, generator: np.random.Generator) -> np.ndarray:
        """Initial parameters, float64."""

    def logits(self, parameters: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Logits ``[rows, classes]``."""

    def backward(self, parameters: np.ndarray, values: np.ndarray, cotangents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """∂L/∂parameters and ∂L/∂values for ∂L/∂logits ``cotangents`` ``[..., rows, classes]``."""


def _class_sums(n_qubits: int, n_classes: int) -> np.ndarray:
    """``[qubits, classes]``: 1 where qubit i adds to class i mod C."""
    return (np.arange(n_qubits)[:, None] % n_classes == np.arange(n_classes)).astype(float)


class ScaledHead:
    """logit_c = s · Σ ⟨Z_i⟩ over qubits i ≡ c mod C + b_c; parameters (s, b_0, …, b_{C-1})."""

    def __init__(self, n_qubits: int, n_classes: int) -> None:
        self._sums = _class_sums(n_qubits, n_classes)

    def initial(self, generator: np.random.Generator) -> np.ndarray:
        """s = 3 and no biases."""
        return np.concatenate([[INITIAL_SCALE], np.zeros(self._sums.shape[1])])

    def logits(self, parameters: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Logits ``[rows, classes]``."""
        return parameters[..., :1, None] * (values @ self._sums) + parameters[..., None, 1:]

    def backward(self, parameters: np.ndarray, values: np.ndarray, cotangents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Head``."""
        scale = np.sum(cotangents * (values @ self._sums), axis=(-2, -1))
        slopes = np.concatenate([scale[..., None], cotangents.sum(axis=-2)], axis=-1)
        return slopes, parameters[..., :1, None] * (cotangents @ self._sums.T)


class LinearHead:
    """logits = ⟨Z⟩ · W + b; parameters W ``[qubits, classes]`` flattened, then b."""

    def __init__(self, n_qubits: int, n_classes: int) -> None:
        self._shape = (n_qubits, n_classes)

    def initial(self, generator: np.random.Generator) -> np.ndarray:
        """W normal with variance 1/qubits, no biases."""
        n_qubits, n_classes = self._shape
        return np.concatenate([generator.normal(0, n_qubits**-0.5, n_qubits * n_classes), np.zeros(n_classes)])

    def _weights(self, parameters: np.ndarray) -> np.ndarray:
        return parameters[..., : self._shape[0] * self._shape[1]].reshape(*parameters.shape[:-1], *self._shape)

    def logits(self, parameters: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Logits ``[rows, classes]``."""
        return values @ self._weights(parameters) + parameters[..., None, -self._shape[1] :]

    def backward(self, parameters: np.ndarray, values: np.ndarray, cotangents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Head``."""
        matrix = values.swapaxes(-1, -2) @ cotangents
        slopes = np.concatenate([matrix.reshape(*matrix.shape[:-2], -1), cotangents.sum(axis=-2)], axis=-1)
        return slopes, cotangents @ self._weights(parameters).swapaxes(-1, -2)


class FixedHead:
    """The scaled head with s = 3 and no biases: nothing to train."""

    def __init__(self, n_qubits: int, n_classes: int) -> None:
        self._sums = INITIAL_SCALE * _class_sums(n_qubits, n_classes)

    def initial(self, generator: np.random.Generator) -> np.ndarray:
        """No parameters."""
        return np.zeros(0)

    def logits(self, parameters: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Logits ``[rows, classes]``."""
        return values @ self._sums

    def backward(self, parameters: np.ndarray, values: np.ndarray, cotangents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Head``."""
        return np.zeros((*cotangents.shape[:-2], 0)), cotangents @ self._sums.T


HEADS: dict[str, Callable[[int, int], Head]] = {"scaled": ScaledHead, "linear": LinearHead, "fixed": FixedHead}


def make_head(name: str, n_qubits: int, n_classes: int) -> Head:
    """The head called ``name``; raises QumosError for an unknown one."""
    if name not in HEADS:
        raise unknown("head", name, HEADS)
    return HEADS[name](n_qubits, n_classes)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, float64."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
