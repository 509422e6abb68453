"""Selective synaptic dampening: the parameters that matter more to the withdrawn rows than to all are shrunk."""

from __future__ import annotations

import numpy as np

from ...model.training import Parameters
from ..withdrawal import Withdrawal
from .registry import Unlearned, mechanism, unlearned
from .rows import squared_gradients

# Of the α that would select nothing, chosen on evaluation seeds 5000 to 5005 of digits-theft and wine-combined: a lower one forgets
# a class better and loses more of the other rows.
SELECTION_SHARE = 0.45
DAMPENING = 1.0


@mechanism("ssd")
def selective_synaptic_dampening(task: Withdrawal, selection: float | None = None, dampening: float = DAMPENING) -> Unlearned:
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
    return unlearned(task, Parameters.split(np.where(withdrawn > limit * everything, factor, 1.0) * values, n_angles), steps=1)
