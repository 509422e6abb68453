"""Mechanisms that make trained models forget some of their training rows, for M models of one design at once.

A mechanism changes the trained parameters θ, angles and head as one vector. The owner's preprocessing, which was fitted on all
training rows, the withdrawn ones included, stays with the angles that were trained behind it: only what starts again from the
initial angles fits it anew. ``retrain`` is the gold standard, and what the others are measured against.
"""

from .ascent import gradient_ascent, relative_gradient_ascent, unseen_loss
from .dampening import selective_synaptic_dampening
from .distillation import distillation
from .influence import influence
from .registry import MECHANISMS, Mechanism, Unlearned, mechanism, unlearn
from .retraining import RETRAIN, fine_tuning, reset, retrain, short_retraining

__all__ = [
    "MECHANISMS",
    "RETRAIN",
    "Mechanism",
    "Unlearned",
    "distillation",
    "fine_tuning",
    "gradient_ascent",
    "influence",
    "mechanism",
    "relative_gradient_ascent",
    "reset",
    "retrain",
    "selective_synaptic_dampening",
    "short_retraining",
    "unlearn",
    "unseen_loss",
]
