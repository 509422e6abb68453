"""Models are chosen on tuning rows and judged on others, so that the best of many is not flattered by the rows that it is scored on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Name = TypeVar("Name")


@dataclass(frozen=True, eq=False)
class Accuracies:
    """Of one model or several, per draw: on the tuning rows and on the scored rows, each ``[..., K]``."""

    tuning: np.ndarray
    scored: np.ndarray

    @classmethod
    def of(cls, predicted: np.ndarray, truth: np.ndarray, tuning: int) -> Accuracies:
        """Of labels ``predicted`` ``[..., K, targets]`` for targets of labels ``truth`` ``[K, targets]``, tuning rows first."""
        right = predicted == truth
        return cls(right[..., :tuning].mean(axis=-1), right[..., tuning:].mean(axis=-1))

    @classmethod
    def from_pairs(cls, pairs: np.ndarray) -> Accuracies:
        """From what ``pairs`` gave."""
        return cls(pairs[..., 0], pairs[..., 1])

    @property
    def pairs(self) -> np.ndarray:
        """Both in one array, ``[..., K, 2]``."""
        return np.stack([self.tuning, self.scored], axis=-1)

    def __getitem__(self, which: Any) -> Accuracies:
        """Those at ``which``."""
        return Accuracies(self.tuning[which], self.scored[which])


def likeliest(scores: np.ndarray) -> np.ndarray:
    """The class with the highest of ``scores`` ``[..., classes]``, the first of equals: ``[...]``.

    What ``argmax`` gives, many times faster: along an axis as short as that of classes it is slow, and took a tenth of an evaluation.
    """
    best = scores[..., 0]
    found = np.zeros(best.shape, np.int16)
    for label in range(1, scores.shape[-1]):
        one = scores[..., label]
        np.copyto(found, label, where=one > best)
        if label + 1 < scores.shape[-1]:
            best = np.maximum(best, one)
    return found


def strongest(found: Mapping[Name, Accuracies]) -> Name:
    """The best on the tuning rows, pooled over draws; the first of equals."""
    # All at once: one mean after the other took a quarter of an evaluation, of hundreds of models on a few draws.
    pooled = np.stack([one.tuning for one in found.values()]).mean(axis=-1)
    return list(found)[int(pooled.argmax())]
