"""The project's preprocessing as a scikit-learn transformer."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..scenario.sections import DataSection
from .preprocessing import Preprocessor


class AngleEncoder(TransformerMixin, BaseEstimator):
    """Raw features to encoded angles, one a qubit: reduced, scaled and clipped as a scenario's data section says.

    Args:
        n_qubits: angles per row; without it one per feature.
        reducer: ``pca``, ``lda`` (needs labels) or ``none``.
        scaler: ``min-max`` or ``max-abs``.
        angle_range: lowest and highest angle, radians.
        encoding: ``angle``, or ``basis``, which rounds to 0 or pi.

    Attributes:
        preprocessor_: the fitted map.
        n_features_in_: number of features.

    Raises:
        QumosError: settings or features that do not fit; it is a ``ValueError``.
    """

    def __init__(
        self,
        n_qubits: int | None = None,
        *,
        reducer: str = "pca",
        scaler: str = "min-max",
        angle_range: tuple[float, float] = (0.0, math.pi),
        encoding: str = "angle",
    ) -> None:
        self.n_qubits = n_qubits
        self.reducer = reducer
        self.scaler = scaler
        self.angle_range = angle_range
        self.encoding = encoding

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> Self:
        """Fits reducer and scaler on rows ``X`` ``[rows, features]``; labels ``y`` ``[rows]`` are for LDA. Returns itself."""
        labels = None
        if y is None:
            X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        else:
            X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
            labels = np.unique(y, return_inverse=True)[1]
        section = DataSection(
            source="array",
            reducer=self.reducer,
            scaler=self.scaler,
            angle_range=self.angle_range,
            encoding=self.encoding,
        )
        self.preprocessor_ = Preprocessor.fit(X, section, self.n_qubits or X.shape[1], labels=labels)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Angles in radians, float64 ``[rows, n_qubits]``."""
        check_is_fitted(self)
        return self.preprocessor_.transform(validate_data(self, X, dtype=np.float64, reset=False))
