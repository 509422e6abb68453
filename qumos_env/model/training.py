"""Training: parameters, losses, and Adam on the angles of circuits and the head behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import EvaluationFailure
from .heads import Head, softmax
from .stack import CircuitStack

if TYPE_CHECKING:
    pass



_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Parameters:
    """Trained values: ``angles`` ``[n_trainable]`` in radians, in canonical gate order, and the ``head``'s flat vector.

    Functions that train or run many models of one design take both with a leading axis for the models.
    """

    angles: np.ndarray
    head: np.ndarray

    @classmethod
    def stack(cls, many: Sequence[Parameters]) -> Parameters:
        """Many models' parameters as one, with a leading axis."""
        return cls(np.stack([one.angles for one in many]), np.stack([one.head for one in many]))

    def __getitem__(self, model: int) -> Parameters:
        """The parameters of one of many models."""
        return Parameters(self.angles[model], self.head[model])


def minimise(
    gradient: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], start: np.ndarray, steps: int, learning_rate: float
) -> np.ndarray:
    """Adam (Kingma and Ba, 2015) for ``steps`` full-batch steps, elementwise, so that many problems can share an array.

    Args:
        gradient: values to (losses, slopes of the shape of the values).
        start: where to begin.
        steps, learning_rate: of Adam.

    Raises:
        EvaluationFailure: a loss or a gradient is not finite.
    """
    values, mean, square = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for step in range(1, steps + 1):
        loss, slope = gradient(values)
        if not (np.isfinite(loss).all() and np.isfinite(slope).all()):
            raise EvaluationFailure(f"training diverged in step {step}: the loss is {loss}")
        mean += (1 - _BETA1) * (slope - mean)
        square += (1 - _BETA2) * (slope * slope - square)
        corrected = np.sqrt(square / (1 - _BETA2**step)) + _EPSILON
        values -= learning_rate / (1 - _BETA1**step) * mean / corrected
        if not np.isfinite(values).all():
            raise EvaluationFailure(f"training diverged in step {step}: an angle or a head parameter is not finite")
    return values


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy against ``targets`` ``[..., rows, classes]`` (probabilities), the mean over rows ``[...]``, and ∂/∂logits."""
    probabilities = softmax(logits)
    rows = targets.shape[-2]
    loss = -np.sum(targets * np.log(np.maximum(probabilities, 1e-300)), axis=(-2, -1)) / rows
    return loss, (probabilities - targets) / rows


def one_hot(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """float64 ``[..., n_classes]``."""
    return np.eye(n_classes)[labels]


def train_stack(
    stack: CircuitStack,
    head: Head,
    inputs: np.ndarray,
    targets: np.ndarray,
    start: Parameters,
    steps: int,
    learning_rate: float,
    frozen: np.ndarray | None = None,
) -> Parameters:
    """Trains M models of one structure: the angles of ``stack`` and the ``head`` on it, to give ``targets``.

    Args:
        stack: circuits whose angles are trained; none trains the heads alone.
        head: on ⟨Z⟩ of the whole register.
        inputs: encoded angles ``[M, rows, n_qubits]``.
        targets: class probabilities ``[M, rows, n_classes]``.
        start: where training starts, with a leading axis of M.
        steps, learning_rate: of Adam.
        frozen: ⟨Z⟩ ``[M, rows, n_qubits]`` of circuits that are not trained, added to that of ``stack``.

    Raises:
        EvaluationFailure: a training diverged.
    """
    batch = stack.encode(inputs)
    n_angles = start.angles.shape[1]
    constant = np.zeros((1, 1, stack.n_qubits)) if frozen is None else frozen

    def gradient(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        angles, parameters = values[:, :n_angles], values[:, n_angles:]
        readout, tapes = stack.forward(angles, batch)
        readout = constant + readout
        loss, cotangents = cross_entropy(head.logits(parameters, readout), targets)
        head_slope, readout_slope = head.backward(parameters, readout, cotangents)
        return loss, np.concatenate([stack.backward(tapes, readout_slope, n_angles), head_slope], axis=1)

    values = minimise(gradient, np.concatenate([start.angles, start.head], axis=1), steps, learning_rate)
    return Parameters(values[:, :n_angles], values[:, n_angles:])
