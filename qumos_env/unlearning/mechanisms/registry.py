"""What a mechanism is, and the list of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ...errors import unknown
from ...evaluation.service import Service
from ...model.training import Parameters, train_stack
from ..withdrawal import Withdrawal


@dataclass(frozen=True, eq=False)
class Unlearned:
    """What a mechanism made of the models.

    Attributes:
        service: the models that have forgotten.
        steps: what it cost each of them, ``[M]``, in gradients over all training rows: a gradient over some of them costs their share.
            The training of the models cost ``model.steps`` of the scenario.
    """

    service: Service
    steps: np.ndarray


Mechanism = Callable[[Withdrawal], Unlearned]
MECHANISMS: dict[str, Mechanism] = {}
_Function = TypeVar("_Function", bound=Mechanism)


def mechanism(name: str) -> Callable[[_Function], _Function]:
    """Registers the decorated function as the mechanism ``name``."""

    def register(run: _Function) -> _Function:
        MECHANISMS[name] = run
        return run

    return register


def unlearn(task: Withdrawal, method: str) -> Unlearned:
    """The models after ``method``.

    Raises:
        QumosError: unknown method.
        EvaluationFailure: it diverged.
    """
    if method not in MECHANISMS:
        raise unknown("unlearning method", method, MECHANISMS)
    return MECHANISMS[method](task)


def unlearned(task: Withdrawal, trained: Parameters, steps: float | np.ndarray) -> Unlearned:
    """The models of ``task`` with the parameters ``trained``, for ``steps`` per model."""
    return Unlearned(replace(task.service, trained=trained), np.broadcast_to(np.asarray(steps, float), len(task.forget)))


def train_on(
    task: Withdrawal, start: Parameters, targets: np.ndarray, weights: np.ndarray | None, steps: int, haste: float = 1.0
) -> Parameters:
    """Trains the models of ``task`` from ``start`` for ``steps`` at ``haste`` times the learning rate; the others as in ``train_stack``.

    Raises:
        EvaluationFailure: it diverged.
    """
    model = task.model
    rate = haste * model.settings.learning_rate
    return train_stack(model.stack, model.head, task.inputs, targets, start, steps, rate, weights=weights)
