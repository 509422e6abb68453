"""Relearning: whoever holds the parameters trains them for some steps on a few of the withdrawn rows.

A class that was only hidden comes back at once, one that was forgotten as slowly as in a model that never saw it: the retrained
model, put through the same, is the control. Masks are no obstacle, nor are biases that silence a class, which ten steps of
training alone would not undo: the relearner lifts the former and, before the first step, centres the logits of every class over
its rows.
"""

from __future__ import annotations

import numpy as np

from ..evaluation.service import Service
from ..model.heads import softmax
from ..model.training import Objective, Parameters, cross_entropy, minimise, one_hot
from ..seeds import label
from .withdrawal import Withdrawal

RELEARNING_STEPS = 10
RELEARNING_ROWS = 3
_TINY = 1e-300


def relearning_rows(task: Withdrawal) -> np.ndarray:
    """Which training rows the relearner has, bool ``[M, rows]``.

    Of every class that lost rows, ``RELEARNING_ROWS`` withdrawn ones but at most half of them, as the others show what came back; of
    the other classes as many retained ones.
    """
    chosen = np.zeros_like(task.forget)
    for index, (labels, forget) in enumerate(zip(task.labels, task.forget, strict=True)):
        generator = np.random.default_rng([task.service.seed, index, label("relearning rows")])
        for name in range(task.service.n_classes):
            gone, kept = np.flatnonzero((labels == name) & forget), np.flatnonzero((labels == name) & ~forget)
            rows, most = (gone, len(gone) // 2) if len(gone) else (kept, len(kept))
            chosen[index, generator.permutation(rows)[: min(RELEARNING_ROWS, most)]] = True
    return chosen


def relearn(service: Service, train: np.ndarray, chosen: np.ndarray, steps: int = RELEARNING_STEPS) -> np.ndarray:
    """What the models of ``service`` answer before every step of relearning and at its end, on all training rows.

    Args:
        service: models that were made to forget, or never knew.
        train: numbers of the training rows, ``[M, rows]``.
        chosen: those that the relearner has, see ``relearning_rows``.
        steps: of Adam, at the scenario's learning rate, on angles and head.

    Returns:
        Class probabilities ``[steps + 1, M, rows, classes]``.

    Raises:
        EvaluationFailure: it diverged.
    """
    model, inputs, n_angles = service.model, service.encode(train), service.design.n_trainable
    weights = chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1)
    shift = -np.einsum("mr,mrc->mc", weights, _log(model.probabilities(service.trained, inputs)))[:, None, :]
    targets = one_hot(service.observed_labels[train], model.n_classes)
    objective = Objective(
        model.stack, model.head, inputs, targets, n_angles, loss=lambda logits, wanted: cross_entropy(logits + shift, wanted)
    )
    passed = []

    def gradient(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        passed.append(values.copy())
        return objective(values, weights)[0]

    end = minimise(gradient, service.trained.joined, steps, model.settings.learning_rate)
    found = [model.probabilities(Parameters.split(values, n_angles), inputs) for values in (*passed, end)]
    return softmax(_log(np.stack(found)) + shift)


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, _TINY))
