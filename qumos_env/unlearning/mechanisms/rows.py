"""Gradients of single rows: every row is a model of its own to the engine, so they are exact."""

from __future__ import annotations

import numpy as np

from ...model.training import Loss, Objective, cross_entropy, one_hot
from ..withdrawal import Withdrawal

_ROWS_AT_ONCE = 4096


def row_gradients(task: Withdrawal, values: np.ndarray, labels: np.ndarray, loss: Loss) -> np.ndarray:
    """Gradients of ``loss`` towards the classes ``labels`` ``[M, rows]`` of every training row, ``[M, rows, parameters]``.

    ``values`` ``[M, parameters]`` are angles and heads.
    """
    model, (models, rows) = task.model, labels.shape
    repeated = np.repeat(values, rows, axis=0)
    inputs = task.inputs.reshape(models * rows, 1, -1)
    targets = one_hot(labels.reshape(models * rows, 1), model.n_classes)
    found = np.empty_like(repeated)
    for at in range(0, models * rows, _ROWS_AT_ONCE):
        piece = slice(at, at + _ROWS_AT_ONCE)
        objective = Objective(model.stack, model.head, inputs[piece], targets[piece], model.design.n_trainable, loss=loss)
        found[piece] = objective(repeated[piece], None)[0][1]
    return found.reshape(models, rows, -1)


def squared_gradients(task: Withdrawal, values: np.ndarray) -> np.ndarray:
    """Squared gradients of log p(label) of every training row, ``[M, rows, parameters]``, at ``values`` ``[M, parameters]``.

    Their mean over rows is the diagonal of the empirical Fisher information: with the labels of the data, not labels drawn from
    the model.
    """
    return np.square(row_gradients(task, values, task.labels, cross_entropy))


def logit_gradients(task: Withdrawal, values: np.ndarray) -> np.ndarray:
    """Gradients of the logits of every training row, ``[M, rows, classes, parameters]``, at ``values`` ``[M, parameters]``."""

    def logit(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.sum(targets * logits, axis=-1), np.broadcast_to(targets, logits.shape)

    each = [row_gradients(task, values, np.full_like(task.labels, one), logit) for one in range(task.model.n_classes)]
    return np.stack(each, axis=2)
