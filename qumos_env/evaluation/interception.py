"""How a thief encodes rows: as its own preprocessing does, and as it learns from the encoded queries that it intercepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from .scaling import of_unit_norm, positive, standardised

_RIDGES = 10.0 ** np.arange(-6, 3.1, 0.5)


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
    """The angles ``[targets, n_qubits]`` that ridge regressions from raw ``features`` to intercepted ``angles`` predict.

    A row has more features than the thief has rows, so everything is in the scale of the features: as they are, standardised, or as the
    leading principal components of all rows it has seen, the unlabelled ``targets`` included. Scale and ridge are chosen for each qubit
    by the leave-one-out error within ``features``.
    """
    n_rows = len(features)
    errors, predictions = [], []
    for scaled in _scales(np.concatenate([features, targets]), angles.shape[1]):
        fitted = RidgeCV(alphas=_RIDGES * n_rows, alpha_per_target=True).fit(scaled[:n_rows], angles)
        errors.append(-np.atleast_1d(fitted.best_score_))
        predictions.append(fitted.predict(scaled[n_rows:]).reshape(len(targets), -1))
    best = np.argmin(errors, axis=0)
    return np.stack([predictions[choice][:, qubit] for qubit, choice in enumerate(best)], axis=1)


def _scales(rows: np.ndarray, n_qubits: int) -> Iterator[np.ndarray]:
    """``rows`` in every scale, centred and of mean squared norm 1."""
    yield of_unit_norm(rows - rows.mean(axis=0))
    yield of_unit_norm(standardised(rows))
    for components in (n_qubits, 2 * n_qubits):
        if components <= min(rows.shape):
            found = PCA(components, svd_solver="full").fit_transform(rows)
            yield of_unit_norm(found / positive(found.std(axis=0)))
