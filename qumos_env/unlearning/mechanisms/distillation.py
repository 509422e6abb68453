"""Distillation: the models learn to treat the withdrawn rows as somebody does who never saw them."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from ...model.training import one_hot
from ..withdrawal import Withdrawal
from .registry import Unlearned, mechanism, train_on, unlearned

DISTILLATION_SHARE = 0.25
"""Steps, as a share of those that trained the models."""


@mechanism("distill")
def distillation(task: Withdrawal, steps: int | None = None) -> Unlearned:
    """Trained on: the labels of the retained rows, a teacher's probabilities on the withdrawn ones.

    As in Chundawat et al. (2023), but their teacher is a random network. This one is a classical model, which costs no circuit: a
    logistic regression on the encoded inputs of the retained rows. It answers what can be told of a row without having seen it, and
    never with a class that is withdrawn as a whole.

    Args:
        task: the models and their rows.
        steps: of training; default ``DISTILLATION_SHARE`` of the models'.

    Raises:
        EvaluationFailure: it diverged.
    """
    steps = steps or max(1, round(DISTILLATION_SHARE * task.model.settings.steps))
    return unlearned(task, train_on(task, task.service.trained, teacher(task), None, steps), steps)


def teacher(task: Withdrawal) -> np.ndarray:
    """Class probabilities ``[M, rows, classes]``: of retained rows their labels, of withdrawn ones the teacher's."""
    targets = one_hot(task.labels, task.model.n_classes)
    for index, gone in enumerate(task.forget):
        fitted = LogisticRegression(max_iter=1000).fit(task.inputs[index][~gone], task.labels[index][~gone])
        targets[index, gone] = 0.0
        targets[index, np.flatnonzero(gone)[:, None], fitted.classes_] = fitted.predict_proba(task.inputs[index][gone])
    return targets
