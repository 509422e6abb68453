"""The control of every forgetting of a class: its output is masked, and nothing is forgotten.

The mask is not clumsy. A class whose probability is 0 would be told at a glance from one that was never trained on, so it gets
the probability that the model gives it on retained rows, and the other classes share the rest as they did.
"""

from __future__ import annotations

import numpy as np

from .withdrawal import Withdrawal

_TINY = 1e-300


def mask_levels(task: Withdrawal) -> np.ndarray:
    """What a mask answers for every class, ``[M, classes]``: NaN for those that still have training rows.

    For the others it is the geometric mean, over the retained rows, of what the trained model answers.
    """
    on_train = task.model.probabilities(task.service.trained, task.inputs)
    logs = np.log(np.maximum(on_train, _TINY))
    return np.where(task.whole_classes, np.exp(np.einsum("mr,mrc->mc", task.retain_weights, logs)), np.nan)


def masked(answers: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """``answers`` ``[..., M, rows, classes]`` of the service, behind the mask of ``levels`` ``[..., M, classes]``."""
    level = levels[..., None, :]
    hidden = np.isfinite(level)
    shown = np.where(hidden, 0.0, np.maximum(answers, _TINY))
    rest = 1 - np.nansum(level, axis=-1, keepdims=True)
    return np.where(hidden, level, rest * shown / shown.sum(axis=-1, keepdims=True))
