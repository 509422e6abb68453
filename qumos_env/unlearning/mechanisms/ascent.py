"""Gradient ascent on the loss of the withdrawn rows.

Without an end this destroys the model, so it stops where these rows look like rows that were never trained on
(``unseen_loss``), or after a number of steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import EvaluationFailure
from ...model.training import Objective, Parameters, one_hot
from ..withdrawal import Withdrawal
from .registry import Unlearned, mechanism, unlearned

ASCENT_STEP = 0.02
ASCENT_STEPS = 300
_TINY = 1e-300


@mechanism("ga")
def gradient_ascent(task: Withdrawal, step: float = ASCENT_STEP, steps: int = ASCENT_STEPS) -> Unlearned:
    """Ascends the mean loss of the withdrawn rows until it reaches that of ``unseen_loss``.

    Args:
        task: the models and their rows.
        step: length of a step in parameter space, radians for angles; the gradient gives the direction only.
        steps: the most that are taken; a model that has reached its end waits for the others.

    Raises:
        EvaluationFailure: a gradient is not finite.
    """
    return _ascend(task, step, steps, lambda forget, retain: forget, task.forget.mean(axis=1))


@mechanism("rga")
def relative_gradient_ascent(task: Withdrawal, step: float = ASCENT_STEP, steps: int = ASCENT_STEPS) -> Unlearned:
    """As ``gradient_ascent``, without the component of the direction that raises the loss of the retained rows.

    With gradients f (withdrawn) and r (retained) the direction is f where f·r ≤ 0, else f − (f·r / r·r)·r.
    """

    def direction(forget: np.ndarray, retain: np.ndarray) -> np.ndarray:
        overlap = np.sum(forget * retain, axis=1, keepdims=True)
        length = np.maximum(np.sum(retain * retain, axis=1, keepdims=True), np.finfo(float).tiny)
        return forget - np.maximum(overlap, 0.0) / length * retain

    return _ascend(task, step, steps, direction, np.ones(len(task.forget)))


def unseen_loss(task: Withdrawal) -> np.ndarray:
    """The mean loss ``[M]`` that the withdrawn rows should have, as far as the trained models tell.

    A row of a class that is still trained on should look like unseen rows of its class. Where all rows of the class are
    withdrawn, a model without them would never answer with that class: the row should get it as seldom as the retained rows do.
    """
    model, trained = task.model, task.service.trained
    losses = np.zeros(len(task.labels))
    on_train = model.probabilities(trained, task.inputs)
    on_unseen = model.probabilities(trained, task.service.encode(task.unseen))
    unseen_labels = task.service.labels[task.unseen]
    for index, (forget, labels) in enumerate(zip(task.forget, task.labels, strict=True)):
        for label in np.unique(labels[forget]):
            like = on_unseen[index][unseen_labels[index] == label]
            if label not in labels[~forget] or len(like) == 0:
                like = on_train[index][~forget]
            share = np.mean(labels[forget] == label)
            losses[index] -= share * np.mean(np.log(np.maximum(like[:, label], _TINY)))
    return losses


def _ascend(
    task: Withdrawal, step: float, steps: int, direction: Callable[[np.ndarray, np.ndarray], np.ndarray], cost: np.ndarray
) -> Unlearned:
    """``cost`` of a step, ``[M]``: the share of the rows whose gradient it takes."""
    values, goal, taken = task.values, unseen_loss(task), np.zeros(len(task.forget))
    model = task.model
    targets = one_hot(task.labels, model.n_classes)
    loss_at = Objective(model.stack, model.head, task.inputs, targets, model.design.n_trainable)
    for _ in range(steps):
        (loss, forget), (_, retain) = loss_at(values, task.forget_weights, task.retain_weights)
        if not (np.isfinite(forget).all() and np.isfinite(retain).all()):
            raise EvaluationFailure("unlearning diverged: a gradient is not finite")
        active = loss < goal
        if not active.any():
            break
        uphill = direction(forget, retain)
        length = np.maximum(np.linalg.norm(uphill, axis=1, keepdims=True), np.finfo(float).tiny)
        values += np.where(active[:, None], step * uphill / length, 0.0)
        taken += active
    return unlearned(task, Parameters.split(values, model.design.n_trainable), cost * taken)
