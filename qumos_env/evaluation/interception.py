"""How a thief encodes rows: as its own preprocessing does, and as it learns from the encoded queries that it intercepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from .scaling import of_unit_norm, positive, standardised

_RIDGES = 10.0 ** np.arange(-6, 3.1, 0.5)
_TINY = 1e-12
_LUCK = 10.0
"""By chance the best of many columns is near few rows; one that the angle is made of is nearer by far."""


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
    """The angles ``[targets, n_qubits]`` that linear regressions from raw ``features`` to intercepted ``angles`` predict.

    A row has more features than the thief has rows, so everything is in the scale of the features: as they are, standardised, or as the
    leading principal components of all rows it has seen, the unlabelled ``targets`` included. Beside ridge regressions on all columns
    stand plain ones on the best single column, since most preprocessing scales one feature, or one component, for each qubit. Scale,
    ridge and column are chosen for each qubit by the leave-one-out error within ``features``, that of a column counted ten times.
    """
    n_rows = len(features)
    errors, predictions = [], []
    for scaled in _scales(np.concatenate([features, targets]), angles.shape[1]):
        fitted = RidgeCV(alphas=_RIDGES * n_rows, alpha_per_target=True).fit(scaled[:n_rows], angles)
        errors.append(-np.atleast_1d(fitted.best_score_))
        predictions.append(fitted.predict(scaled[n_rows:]).reshape(len(targets), -1))
        if n_rows > 2:
            error, predicted = _on_one_column(scaled[:n_rows], angles, scaled[n_rows:])
            errors.append(_LUCK * error)
            predictions.append(predicted)
    best = np.argmin(errors, axis=0)
    return np.stack([predictions[choice][:, qubit] for qubit, choice in enumerate(best)], axis=1)


def _on_one_column(rows: np.ndarray, angles: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of least squares on whichever single column is best for each qubit: mean squared leave-one-out errors ``[n_qubits]``, predictions."""
    centre, mean = rows.mean(axis=0), angles.mean(axis=0)
    within = rows - centre
    squares = np.maximum(np.sum(within**2, axis=0), _TINY)
    slopes = within.T @ (angles - mean) / squares[:, None]
    residuals = (angles - mean)[:, None] - within[:, :, None] * slopes
    leverages = 1 / len(rows) + within**2 / squares
    left_out = residuals / np.maximum(1 - leverages, _TINY)[:, :, None]
    errors = np.mean(left_out**2, axis=0)
    best = errors.argmin(axis=0)
    qubits = np.arange(angles.shape[1])
    return errors[best, qubits], mean + (targets - centre)[:, best] * slopes[best, qubits]


def _scales(rows: np.ndarray, n_qubits: int) -> Iterator[np.ndarray]:
    """``rows`` in every scale, centred and of mean squared norm 1."""
    yield of_unit_norm(rows - rows.mean(axis=0))
    yield of_unit_norm(standardised(rows))
    for components in (n_qubits, 2 * n_qubits):
        if components <= min(rows.shape):
            found = PCA(components, svd_solver="full").fit_transform(rows)
            yield of_unit_norm(found / positive(found.std(axis=0)))
