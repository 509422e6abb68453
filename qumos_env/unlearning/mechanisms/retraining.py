"""Mechanisms that train on the retained rows: again in full, which is the gold standard, again in short, or on from where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...model.training import Parameters, one_hot
from ..withdrawal import Withdrawal
from .registry import Unlearned, mechanism, train_on, unlearned
from .rows import squared_gradients

RETRAIN = "retrain"
# Of shares from a quarter to five eighths at one to three times the rate, chosen on evaluation seeds 5000 and 5001 of digits-theft.
SHORT_SHARE, SHORT_HASTE = 0.5, 2.0
FINE_TUNING_SHARE = 0.25
RESET_SHARE = 0.5


@mechanism(RETRAIN)
def retrain(task: Withdrawal) -> Unlearned:
    """Trained from the initial parameters on the retained rows alone, as ``task.refitted`` encodes them: exact unlearning.

    Raises:
        EvaluationFailure: a training diverged.
    """
    return _retrain(task, task.model.settings.steps, 1.0)


@mechanism("short")
def short_retraining(task: Withdrawal, share: float = SHORT_SHARE, haste: float = SHORT_HASTE) -> Unlearned:
    """As ``retrain``, and as exact, but for a ``share`` of the steps at ``haste`` times the learning rate: another model, of the same kind.

    Raises:
        EvaluationFailure: a training diverged.
    """
    return _retrain(task, max(1, round(share * task.model.settings.steps)), haste)


@mechanism("finetune")
def fine_tuning(task: Withdrawal, share: float = FINE_TUNING_SHARE) -> Unlearned:
    """Trained on, on the retained rows alone, for a ``share`` of the steps: whatever is forgotten by not being repeated.

    Raises:
        EvaluationFailure: it diverged.
    """
    return _tune(task, task.service.trained, share)


@mechanism("reset")
def reset(task: Withdrawal, share: float = FINE_TUNING_SHARE, angles: float = RESET_SHARE) -> Unlearned:
    """The head and the angles that matter most to the withdrawn rows start again from their initial values; then as ``fine_tuning``.

    After Goel et al. (arXiv 2201.06640), who reset the last layers. Which angles matter is told as by ``selective_synaptic_dampening``:
    from the Fisher information of the withdrawn rows over that of all.

    Args:
        task: the models and their rows.
        share: of the steps of the models' training.
        angles: share of the angles that are reset.

    Raises:
        EvaluationFailure: it diverged.
    """
    initial, squares = _initial(task), squared_gradients(task, task.values)[..., : task.model.design.n_trainable]
    withdrawn = np.einsum("mr,mrp->mp", task.forget_weights, squares)
    ratio = withdrawn / np.maximum(squares.mean(axis=1), np.finfo(float).tiny)
    # Of equal ratios, such as those of angles that change nothing, the first come first.
    order = np.argsort(-ratio, axis=1, kind="stable")
    chosen = np.argsort(order, axis=1) < round(angles * ratio.shape[1])
    found = _tune(task, Parameters(np.where(chosen, initial.angles, task.service.trained.angles), initial.head), share)
    return replace(found, steps=found.steps + 1)


def _retrain(task: Withdrawal, steps: int, haste: float) -> Unlearned:
    fresh = replace(task, service=replace(task.service, preprocessors=task.refitted))
    trained = train_on(fresh, _initial(task), _labels(task), task.retain_weights, steps, haste)
    return unlearned(fresh, trained, steps * (1 - task.forget.mean(axis=1)))


def _tune(task: Withdrawal, start: Parameters, share: float) -> Unlearned:
    steps = max(1, round(share * task.model.settings.steps))
    trained = train_on(task, start, _labels(task), task.retain_weights, steps)
    return unlearned(task, trained, steps * (1 - task.forget.mean(axis=1)))


def _initial(task: Withdrawal) -> Parameters:
    return Parameters.stack([task.model.initial(key) for key in task.keys])


def _labels(task: Withdrawal) -> np.ndarray:
    return one_hot(task.labels, task.model.n_classes)
