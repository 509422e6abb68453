"""Inverting gradients: the inputs whose training gradient is the observed one, by Levenberg–Marquardt.

Matching gradients needs their derivative by the inputs, a mixed second derivative of the loss, and the engines differentiate once.
It is put together from shifted circuits: by the angles with the parameter-shift rule, which is exact, by the inputs with central
differences, and through head and loss in closed form. ⟨Z⟩ of a fragment depends on nothing outside the fragment, so one shifted run
serves all fragments at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...model.heads import softmax
from ...model.qnn import QNN
from ...model.training import Parameters

_SHIFT = np.pi / 2
_STEP = 0.05  # radians; single precision and truncation both err by less than 1e-3 of a slope
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-9, 1e6
ARRIVED = 1e-8
"""Residual, as a share of the observed gradient's squared length, below which rows count as found; single precision ends near 1e-11."""
_TINY = 1e-12


class GradientMap:
    """Gradients of the training loss by a design's angles, as a function of the rows that they are computed on.

    Args:
        model: the design as a model; D trainings of it are looked at together.
    """

    def __init__(self, model: QNN) -> None:
        self._stack, self._head = model.stack, model.head
        self._n_angles = model.design.n_trainable
        self._n_classes = model.n_classes
        self._blocks = [(engine.qubits, engine.weights) for engine in model.stack.engines]

    def gradients(self, parameters: Parameters, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """∂(cross-entropy of a row)/∂angles, ``[D, N, n_trainable]``.

        Args:
            parameters: of D models.
            inputs: encoded angles ``[D, N, n_qubits]``.
            targets: one-hot labels ``[D, N, classes]``.
        """
        values, by_angle = self._readout(parameters, inputs)
        slopes, _ = self._loss(parameters, values, targets)
        return self._assembled(slopes, by_angle)

    def with_jacobian(self, parameters: Parameters, inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``gradients``, and their derivatives by the row's own inputs, ``[D, N, n_trainable, n_qubits]``."""
        models, rows, width = inputs.shape
        moves = self._together([qubits for qubits, _ in self._blocks], width) * _STEP
        near = inputs[:, :, None] + np.concatenate([np.zeros((1, width)), moves, -moves])
        found, derivatives = self._readout(parameters, near.reshape(models, -1, width))
        values, by_angle = found.reshape(models, rows, -1, width), derivatives.reshape(models, rows, -1, *derivatives.shape[2:])
        count = len(moves)
        by_input = (values[:, :, 1 : count + 1] - values[:, :, count + 1 :]) / (2 * _STEP)
        mixed = (by_angle[:, :, 1 : count + 1] - by_angle[:, :, count + 1 :]) / (2 * _STEP)
        here = by_angle[:, :, 0]
        slopes, curvature = self._loss(parameters, values[:, :, 0], targets)
        jacobian = np.zeros((models, rows, self._n_angles, width))
        for qubits, _ in self._blocks:
            for number, qubit in enumerate(qubits):
                bent = (curvature[..., qubits] @ by_input[:, :, number, qubits, None])[..., 0]
                jacobian[..., qubit] = self._assembled(bent, here)
        for qubits, weights in self._blocks:
            direct = np.einsum("dnq,dntsq->dnst", slopes[..., qubits], mixed[:, :, : len(qubits), : len(weights), qubits])
            jacobian[:, :, np.array(weights, int)[:, None], np.array(qubits, int)] += direct
        return self._assembled(slopes, here), jacobian

    def _readout(self, parameters: Parameters, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """⟨Z⟩ ``[D, N, n]``, and its derivatives by the s-th angle of each qubit's own fragment ``[D, N, s, n]``."""
        shifts = self._together([weights for _, weights in self._blocks], self._n_angles) * _SHIFT
        angles = parameters.angles[:, None] + np.concatenate([np.zeros((1, self._n_angles)), shifts, -shifts])
        models, runs, _ = angles.shape
        found = self._stack.readout(angles.reshape(models * runs, -1), np.repeat(inputs, runs, axis=0))
        found = found.reshape(models, runs, *inputs.shape[1:])
        count = len(shifts)
        return found[:, 0], ((found[:, 1 : count + 1] - found[:, count + 1 :]) / 2).swapaxes(1, 2)

    @staticmethod
    def _together(groups: list[list[int]], size: int) -> np.ndarray:
        """Row t of ``[longest group, size]`` marks the t-th member of every group that has one."""
        marks = np.zeros((max(map(len, groups)), size))
        for group in groups:
            marks[np.arange(len(group)), group] = 1
        return marks

    def _loss(self, parameters: Parameters, values: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and second derivatives of every row's loss by ⟨Z⟩, ``[D, N, n]`` and ``[D, N, n, n]``; heads are affine."""
        probabilities = softmax(self._head.logits(parameters.head, values))
        models, _, width = values.shape
        units = np.broadcast_to(np.eye(self._n_classes), (models, self._n_classes, self._n_classes))
        matrix = self._head.backward(parameters.head, np.zeros((models, self._n_classes, width)), units)[1]
        mean = probabilities @ matrix
        second = np.einsum("dnc,dcq,dcr->dnqr", probabilities, matrix, matrix, optimize=True) - mean[..., :, None] * mean[..., None, :]
        return (probabilities - targets) @ matrix, second

    def _assembled(self, slopes: np.ndarray, by_angle: np.ndarray) -> np.ndarray:
        """Σ_q ``slopes``_q · ∂⟨Z_q⟩/∂θ for every angle θ, ``[D, N, n_trainable]``."""
        gradient = np.zeros((*slopes.shape[:2], self._n_angles))
        for qubits, weights in self._blocks:
            gradient[..., weights] = np.einsum("dnq,dnsq->dns", slopes[..., qubits], by_angle[:, :, : len(weights), qubits])
        return gradient


@dataclass(frozen=True)
class Inverted:
    """What gradient inversion found.

    Attributes:
        inputs: ``[D, G, rows, n_qubits]`` in radians.
        residual: squared distance of their gradient from the observed one, as a share of the latter's squared length, ``[D, G]``.
    """

    inputs: np.ndarray
    residual: np.ndarray


def invert(
    gradient: GradientMap,
    parameters: Parameters,
    observed: np.ndarray,
    targets: np.ndarray,
    starts: np.ndarray,
    angle_range: tuple[float, float],
    steps: int = 20,
) -> Inverted:
    """The batches of inputs within ``angle_range`` whose mean gradients come closest to the ``observed`` ones.

    Levenberg–Marquardt (Marquardt, 1963), clipped to the range, from all starts at once. Of the starts of a batch the one with
    the smallest residual is kept, which the adversary sees. It ends early once every batch has a start that has arrived.

    Args:
        gradient: of a row, as a function of its inputs.
        parameters: of D models.
        observed: mean gradients ``[D, G, n_trainable]`` of G batches per model.
        targets: one-hot labels ``[D, G, rows, classes]``, known to the adversary.
        starts: where the search starts, ``[restarts, D, G, rows, n_qubits]``. Two rows of one label must not start alike.
        angle_range: lowest and highest angle of the encoding.
        steps: of Levenberg–Marquardt, at most.
    """
    restarts, models, groups, rows, width = starts.shape
    size = rows * width
    labels = np.tile(targets[:, None], (1, restarts, 1, 1, 1)).reshape(models, -1, targets.shape[-1])
    goal = np.tile(observed[:, None], (1, restarts, 1, 1)).reshape(models, restarts * groups, -1)
    length = np.maximum(np.square(goal).sum(axis=-1), _TINY)

    def look(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Errors ``[D, batches, angles]``, their squared lengths, and their slopes ``[D, batches, angles, size]``."""
        found, slopes = gradient.with_jacobian(parameters, inputs.reshape(models, -1, width), labels)
        errors = found.reshape(models, -1, rows, found.shape[-1]).mean(axis=2) - goal
        slopes = slopes.reshape(models, -1, rows, *slopes.shape[-2:]).swapaxes(2, 3).reshape(models, errors.shape[1], -1, size) / rows
        return errors, np.square(errors).sum(axis=-1) / length, slopes

    inputs = starts.swapaxes(0, 1).reshape(models, restarts * groups, size)
    errors, residual, slopes = look(inputs)
    damping = np.full(residual.shape, _FIRST_DAMPING)
    for _ in range(steps):
        if (residual.reshape(models, restarts, groups).min(axis=1) < ARRIVED).all():
            break
        normal = slopes.swapaxes(-1, -2) @ slopes
        scale = np.maximum(np.einsum("dgii->dgi", normal), _TINY)
        ridge = damping[..., None, None] * scale[..., None] * np.eye(size)
        tried = np.clip(inputs - np.linalg.solve(normal + ridge, slopes.swapaxes(-1, -2) @ errors[..., None])[..., 0], *angle_range)
        new_errors, new_residual, new_slopes = look(tried)
        better = new_residual < residual
        inputs = np.where(better[..., None], tried, inputs)
        errors = np.where(better[..., None], new_errors, errors)
        slopes = np.where(better[..., None, None], new_slopes, slopes)
        residual = np.where(better, new_residual, residual)
        damping = np.clip(np.where(better, damping / 10, damping * 4), _LEAST_DAMPING, _MOST_DAMPING)
    left = residual.reshape(models, restarts, groups)
    best = left.argmin(axis=1)[:, None]
    found = np.take_along_axis(inputs.reshape(models, restarts, groups, size), best[..., None], axis=1)
    return Inverted(found.reshape(models, groups, rows, width), np.take_along_axis(left, best, axis=1)[:, 0])
