"""Influence: what one step of a second-order method says that the rows have done to the parameters is taken back."""

from __future__ import annotations

import numpy as np

from ...errors import EvaluationFailure
from ...model.training import Parameters, one_hot
from ..withdrawal import Withdrawal
from .registry import Unlearned, mechanism, unlearned
from .rows import logit_gradients

# Of .0003 to .3, chosen on evaluation seeds 5000 to 5002 of digits-theft: less damping forgets more and loses accuracy with 20 rows.
DAMPING = 0.01


@mechanism("influence")
def influence(task: Withdrawal, damping: float = DAMPING) -> Unlearned:
    """θ − (H + λ)⁻¹·(∇L_R − ∇L_D): the step to the optimum without the rows, for a model at that with them (Koh and Liang, 2017).

    L_D and L_R are the losses of all and of the retained rows. H is the whole Hessian of L_R, no diagonal, in the approximation of
    Gauss and Newton, which is never indefinite: the mean of Jᵀ(diag p − p·pᵀ)J over the retained rows, J the slopes of the logits.
    Shifted circuits give all of these as they give a gradient, so the step costs one.

    Args:
        task: the models and their rows.
        damping: λ. Angles that change no answer need some.

    Raises:
        EvaluationFailure: the step is not finite.
    """
    values, slopes = task.values, logit_gradients(task, task.values)
    answers = task.model.probabilities(task.service.trained, task.inputs)
    pulled = np.einsum("mrc,mrcp->mrp", answers - one_hot(task.labels, task.model.n_classes), slopes)
    difference = np.einsum("mr,mrp->mp", task.retain_weights - 1 / task.labels.shape[1], pulled)
    # diag p − p·pᵀ is the covariance of one draw of a class with probabilities p.
    centred = slopes - np.einsum("mrc,mrcp->mrp", answers, slopes)[:, :, None]
    weighted = (task.retain_weights[..., None] * answers)[..., None] * centred
    hessian = np.einsum("mrcp,mrcq->mpq", weighted, centred, optimize=True) + damping * np.eye(values.shape[1])
    values -= np.linalg.solve(hessian, difference[..., None])[..., 0]
    if not np.isfinite(values).all():
        raise EvaluationFailure("unlearning diverged: a step is not finite")
    return unlearned(task, Parameters.split(values, task.model.design.n_trainable), steps=1)
