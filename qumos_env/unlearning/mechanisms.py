"""Mechanisms that make trained models forget some of their training rows, for M models of one design at once.

A mechanism changes the trained parameters θ (angles and head, as one vector) and nothing else: the owner's preprocessing stays
the one that was fitted on all training rows, the withdrawn ones included. Only ``retrain`` starts again without them.

``ga``, gradient ascent, raises the loss of the withdrawn rows. Without an end this destroys the model, so it stops where these
rows look like rows that were never trained on (``unseen_loss``), or after a number of steps.

``rga``, relative gradient ascent, does the same along the part of the gradient that does not raise the loss of the retained rows.
Su et al. (arXiv 2509.06086) name a relative gradient ascent and publish no formula: this is a reading of the name, not their
algorithm.

``ssd``, selective synaptic dampening (Foster et al., 2024), shrinks the parameters that matter more to the withdrawn rows than
to all.

``retrain`` is the gold standard, and what the others are measured against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..errors import EvaluationFailure, unknown
from ..evaluation.service import Service
from ..model.training import Objective, Parameters, one_hot
from .withdrawal import Withdrawal

ASCENT_STEP = 0.02
ASCENT_STEPS = 300
# Of the α that would select nothing, chosen on evaluation seeds 5000 to 5005 of digits-theft and wine-combined: a lower one forgets
# a class better and loses more of the other rows.
SELECTION_SHARE = 0.45
DAMPENING = 1.0
RETRAIN = "retrain"
_ROWS_AT_ONCE = 4096
_TINY = 1e-300

Mechanism = Callable[[Withdrawal], Parameters]
MECHANISMS: dict[str, Mechanism] = {}
_Function = TypeVar("_Function", bound=Mechanism)


def mechanism(name: str) -> Callable[[_Function], _Function]:
    """Registers the decorated function as the mechanism ``name``."""

    def register(run: _Function) -> _Function:
        MECHANISMS[name] = run
        return run

    return register


@mechanism("ga")
def gradient_ascent(task: Withdrawal, step: float = ASCENT_STEP, steps: int = ASCENT_STEPS) -> Parameters:
    """Ascends the mean loss of the withdrawn rows until it reaches that of ``unseen_loss``.

    Args:
        task: the models and their rows.
        step: length of a step in parameter space, radians for angles; the gradient gives the direction only.
        steps: the most that are taken; a model that has reached its end waits for the others.

    Raises:
        EvaluationFailure: a gradient is not finite.
    """
    return _ascend(task, step, steps, lambda forget, retain: forget)


@mechanism("rga")
def relative_gradient_ascent(task: Withdrawal, step: float = ASCENT_STEP, steps: int = ASCENT_STEPS) -> Parameters:
    """As ``gradient_ascent``, without the component of the direction that raises the loss of the retained rows.

    With gradients f (withdrawn) and r (retained) the direction is f where f·r ≤ 0, else f − (f·r / r·r)·r.
    """

    def direction(forget: np.ndarray, retain: np.ndarray) -> np.ndarray:
        overlap = np.sum(forget * retain, axis=1, keepdims=True)
        length = np.maximum(np.sum(retain * retain, axis=1, keepdims=True), np.finfo(float).tiny)
        return forget - np.maximum(overlap, 0.0) / length * retain

    return _ascend(task, step, steps, direction)


@mechanism("ssd")
def selective_synaptic_dampening(task: Withdrawal, selection: float | None = None, dampening: float = DAMPENING) -> Parameters:
    """θ_i ← min(λ·F_D,i / F_U,i, 1)·θ_i where F_U,i > α·F_D,i (Foster et al., 2024).

    F_U and F_D are the diagonals of the empirical Fisher information over the withdrawn and over all training rows, see
    ``squared_gradients``. Angles are periodic: they are brought to [−π, π) first, since the same circuit with an angle of 2π more
    would be dampened to another one. Unlike that of a weight, an angle's zero is not neutral: it is one rotation among others, so
    dampening disturbs a small circuit more than a large network, for which the mechanism was made.

    Args:
        task: the models and their rows.
        selection: α. As F_D is at least F_U times the share of the withdrawn rows, an α of one over that share selects nothing;
            the default is ``SELECTION_SHARE`` of it.
        dampening: λ.
    """
    values = task.values
    n_angles = task.model.design.n_trainable
    values[:, :n_angles] = (values[:, :n_angles] + np.pi) % (2 * np.pi) - np.pi
    limit = SELECTION_SHARE / task.forget.mean(axis=1, keepdims=True) if selection is None else selection
    samples = squared_gradients(task, values)
    withdrawn = np.einsum("mr,mrp->mp", task.forget_weights, samples)
    everything = samples.mean(axis=1)
    factor = np.minimum(dampening * everything / np.maximum(withdrawn, np.finfo(float).tiny), 1.0)
    return Parameters.split(np.where(withdrawn > limit * everything, factor, 1.0) * values, n_angles)


@mechanism(RETRAIN)
def retrain(task: Withdrawal, keys: Sequence[Sequence[int]] | None = None) -> Parameters:
    """Trained on the retained rows alone, as ``task.refitted`` encodes them.

    Args:
        task: the models and their rows.
        keys: of the initial parameters; default those of the models.

    Raises:
        EvaluationFailure: a training diverged.
    """
    inputs = replace(task.victim, preprocessors=task.refitted).encode(task.train)
    targets = one_hot(task.labels, task.model.n_classes)
    return task.model.train_towards(inputs, targets, keys or task.keys, weights=task.retain_weights)


def unlearn(task: Withdrawal, method: str) -> Service:
    """The models after ``method``: with new parameters, and with ``retrain`` with a new preprocessing too.

    Raises:
        QumosError: unknown method.
        EvaluationFailure: it diverged.
    """
    if method not in MECHANISMS:
        raise unknown("unlearning method", method, MECHANISMS)
    trained = MECHANISMS[method](task)
    return replace(task.victim, trained=trained, preprocessors=task.refitted if method == RETRAIN else task.victim.preprocessors)


def unseen_loss(task: Withdrawal) -> np.ndarray:
    """The mean loss ``[M]`` that the withdrawn rows should have, as far as the trained models tell.

    A row of a class that is still trained on should look like unseen rows of its class. Where all rows of the class are
    withdrawn, a model without them would never answer with that class: the row should get it as seldom as the retained rows do.
    """
    model, trained = task.model, task.victim.trained
    losses = np.zeros(len(task.labels))
    on_train = model.probabilities(trained, task.inputs)
    on_unseen = model.probabilities(trained, task.victim.encode(task.unseen))
    unseen_labels = task.victim.labels[task.unseen]
    for index, (forget, labels) in enumerate(zip(task.forget, task.labels, strict=True)):
        for label in np.unique(labels[forget]):
            like = on_unseen[index][unseen_labels[index] == label]
            if label not in labels[~forget] or len(like) == 0:
                like = on_train[index][~forget]
            share = np.mean(labels[forget] == label)
            losses[index] -= share * np.mean(np.log(np.maximum(like[:, label], _TINY)))
    return losses


def squared_gradients(task: Withdrawal, values: np.ndarray) -> np.ndarray:
    """Squared gradients of log p(label) of every training row, ``[M, rows, parameters]``, at ``values`` ``[M, parameters]``.

    Their mean over rows is the diagonal of the empirical Fisher information: with the labels of the data, not labels drawn from
    the model. Every row is a model of its own to the engine, so the gradients are exact.
    """
    models, rows = task.labels.shape
    repeated = np.repeat(values, rows, axis=0)
    inputs = task.inputs.reshape(models * rows, 1, -1)
    labels = task.labels.reshape(models * rows, 1)
    found = np.empty_like(repeated)
    for at in range(0, models * rows, _ROWS_AT_ONCE):
        piece = slice(at, at + _ROWS_AT_ONCE)
        found[piece] = _objective(task, inputs[piece], labels[piece])(repeated[piece], None)[0][1]
    return np.square(found).reshape(models, rows, -1)


def _ascend(task: Withdrawal, step: float, steps: int, direction: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Parameters:
    values, goal = task.values, unseen_loss(task)
    objective = _objective(task, task.inputs, task.labels)
    for _ in range(steps):
        (loss, forget), (_, retain) = objective(values, task.forget_weights, task.retain_weights)
        if not (np.isfinite(forget).all() and np.isfinite(retain).all()):
            raise EvaluationFailure("unlearning diverged: a gradient is not finite")
        active = loss < goal
        if not active.any():
            break
        uphill = direction(forget, retain)
        length = np.maximum(np.linalg.norm(uphill, axis=1, keepdims=True), np.finfo(float).tiny)
        values += np.where(active[:, None], step * uphill / length, 0.0)
    return Parameters.split(values, task.model.design.n_trainable)


def _objective(task: Withdrawal, inputs: np.ndarray, labels: np.ndarray) -> Objective:
    """The owner's loss on some rows."""
    model = task.model
    return Objective(model.stack, model.head, inputs, one_hot(labels, model.n_classes), model.design.n_trainable)
