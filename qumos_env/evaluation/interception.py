"""How a thief encodes rows: as its own preprocessing does, and as it learns from the encoded queries that it intercepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import Ridge


@dataclass(frozen=True)
class ThiefRows:
    """Rows as the thief can encode them, ``[rows, n_qubits]``: as fitted to intercepted queries, and by its own preprocessing.

    With a leading axis, the rows of many draws.
    """

    intercepted: np.ndarray
    own: np.ndarray

    @classmethod
    def stack(cls, many: Sequence[ThiefRows]) -> ThiefRows:
        """The rows of many draws as one, with a leading axis."""
        return cls(np.stack([one.intercepted for one in many]), np.stack([one.own for one in many]))


def fit_encoding(features: np.ndarray, angles: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The angles ``[targets, n_qubits]`` that a ridge regression from raw ``features`` to intercepted ``angles`` predicts.

    The ridge is a thousandth of the mean squared norm of a row, enough to be well-posed.
    """
    spread = float(np.mean(np.sum((features - features.mean(axis=0)) ** 2, axis=1)))
    return Ridge(alpha=1e-3 * max(spread, 1e-12)).fit(features, angles).predict(targets).reshape(len(targets), -1)
