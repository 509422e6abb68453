"""Training: parameters, losses, and Adam on the angles of circuits and the head behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import EvaluationFailure
from .heads import Head, softmax
from .stack import CircuitStack

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_TINY = 1e-300

Loss = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Logits and targets, both ``[..., rows, classes]``, to the loss of every row ``[..., rows]`` and its slope by the logits."""
Watch = Callable[[np.ndarray, np.ndarray], None]
"""Told in every step the angles ``[M, n_trainable]`` and the readout ``[M, rows, n_qubits]`` of the circuits."""


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

    @classmethod
    def split(cls, values: np.ndarray, n_angles: int) -> Parameters:
        """The parameters in one array ``[..., parameters]``, angles first."""
        return cls(values[..., :n_angles], values[..., n_angles:])

    @property
    def joined(self) -> np.ndarray:
        """Angles, then heads, in one array ``[..., parameters]``, a copy."""
        return np.concatenate([self.angles, self.head], axis=-1)

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
    """Cross-entropy of every row against probabilities ``targets``, and ∂/∂logits; see ``Loss``."""
    probabilities = softmax(logits)
    return -np.sum(targets * np.log(np.maximum(probabilities, _TINY)), axis=-1), probabilities - targets


def one_hot(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """float64 ``[..., n_classes]``."""
    return np.eye(n_classes)[labels]


class Objective:
    """The loss of M models of one structure on their rows, as a function of all parameters.

    Args:
        stack: circuits; none leaves the heads alone.
        head: on ⟨Z⟩ of the whole register.
        inputs: encoded angles ``[M, rows, n_qubits]``.
        targets: class probabilities ``[M, rows, n_classes]``.
        n_angles: angles of a model; the other parameters are its head's.
        loss: of a row.
        frozen: ⟨Z⟩ ``[M, rows, n_qubits]`` of circuits that are not trained, added to that of ``stack``.
        watch: told of every evaluation.
    """

    def __init__(
        self,
        stack: CircuitStack,
        head: Head,
        inputs: np.ndarray,
        targets: np.ndarray,
        n_angles: int,
        *,
        loss: Loss = cross_entropy,
        frozen: np.ndarray | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._stack, self._head, self._targets, self._n_angles = stack, head, targets, n_angles
        self._loss, self._watch = loss, watch
        self._batch = stack.encode(inputs)
        self._frozen = np.zeros((1, 1, stack.n_qubits)) if frozen is None else frozen

    def __call__(self, values: np.ndarray, *weights: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
        """The loss ``[M]`` and its gradient ``[M, parameters]`` at ``values`` ``[M, parameters]``, for each way to weigh the rows.

        Weights are ``[M, rows]`` and sum to 1; ``None`` is the plain mean.
        """
        angles, parameters = values[:, : self._n_angles], values[:, self._n_angles :]
        readout, tapes = self._stack.forward(angles, self._batch)
        if self._watch is not None:
            self._watch(angles, readout)
        readout = self._frozen + readout
        losses, slopes = self._loss(self._head.logits(parameters, readout), self._targets)
        rows = losses.shape[-1]
        found = []
        for weight in weights:
            cotangents = slopes / rows if weight is None else slopes * weight[..., None]
            head_slope, readout_slope = self._head.backward(parameters, readout, cotangents)
            gradient = np.concatenate([self._stack.backward(tapes, readout_slope, self._n_angles), head_slope], axis=1)
            found.append((losses.mean(axis=-1) if weight is None else np.sum(losses * weight, axis=-1), gradient))
        return found


def train_stack(
    stack: CircuitStack,
    head: Head,
    inputs: np.ndarray,
    targets: np.ndarray,
    start: Parameters,
    steps: int,
    learning_rate: float,
    *,
    loss: Loss = cross_entropy,
    weights: np.ndarray | None = None,
    frozen: np.ndarray | None = None,
    watch: Watch | None = None,
) -> Parameters:
    """Trains M models of one structure: the angles of ``stack`` and the ``head`` on it, to give ``targets``.

    Args:
        stack, head, inputs, targets, loss, frozen, watch: see ``Objective``.
        start: where training starts, with a leading axis of M.
        steps, learning_rate: of Adam.
        weights: of the rows, ``[M, rows]``, summing to 1; default the plain mean.

    Raises:
        EvaluationFailure: a training diverged.
    """
    n_angles = start.angles.shape[1]
    objective = Objective(stack, head, inputs, targets, n_angles, loss=loss, frozen=frozen, watch=watch)
    return Parameters.split(minimise(lambda values: objective(values, weights)[0], start.joined, steps, learning_rate), n_angles)
