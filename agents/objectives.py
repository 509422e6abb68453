"""What a design is worth in each respect: accuracy, security and cost, and which designs no other one beats in all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .protocol import Scalar

_PART = "rewards."
_NOT_SECURITY = ("accuracy", "cost")


class Objectives(NamedTuple):
    """The three respects.

    Attributes:
        accuracy: of the owner's model, in [0, 1].
        security: what resistance to the adversaries of the scenario adds to its reward: the parts of the reward but those of accuracy and
            cost, with their weights.
        cost: in the scenario's unit; less is better.
    """

    accuracy: float
    security: float
    cost: float


def objectives(evaluation: Mapping[str, Scalar]) -> Objectives | None:
    """The respects of an evaluation, given as flat scalars; ``None`` where it lacks some, as after a failure."""
    accuracy, cost = (_number(evaluation.get(name)) for name in ("accuracy", "cost"))
    parts = [_number(value) for name, value in evaluation.items() if name.startswith(_PART) and name[len(_PART) :] not in _NOT_SECURITY]
    if accuracy is None or cost is None or None in parts:
        return None
    return Objectives(accuracy, math.fsum(part for part in parts if part is not None), cost)


def as_losses(found: Sequence[Objectives]) -> np.ndarray:
    """The respects as figures of which less is better, ``[designs, 3]``."""
    return np.array([(-one.accuracy, -one.security, one.cost) for one in found], float).reshape(-1, 3)


def non_dominated(losses: np.ndarray) -> np.ndarray:
    """Which rows of ``losses`` ``[designs, respects]`` no other one beats, bool ``[designs]``; of equal rows the first counts.

    One row beats another if it is no worse in any respect and better in one.
    """
    keep = np.ones(len(losses), bool)
    for number, row in enumerate(losses):
        no_worse = (losses <= row).all(axis=1)
        equal = (losses == row).all(axis=1)
        keep[number] = not (no_worse & ~equal).any() and not equal[:number].any()
    return keep


def _number(value: Scalar) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
