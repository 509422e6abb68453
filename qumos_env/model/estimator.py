"""The distributed quantum neural network as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ..design import Design
from ..design.ansatz import ry_cz_ry
from ..errors import QumosError
from ..scenario.sections import ModelSection
from ..simulation.channels import NoiseSpec
from .qnn import QNN
from .training import Parameters

DEFAULT_LAYERS = 2
"""Of the ansatz that stands in where no design is given."""


class DistributedQNN(ClassifierMixin, BaseEstimator):
    """A design as a classifier: it clones, goes into pipelines and is cross-validated like any other.

    Training is exact; predictions are the service's, with the noise of the providers' hardware and from the design's shots, where there
    are any.

    Args:
        design: the distributed design; without one an RY-CZ-RY ansatz of two layers on a single provider, as wide as the features.
        n_classes: labels are then 0 to ``n_classes - 1``; without it the classes are those of ``fit``, of any kind.
        head: ``scaled``, ``linear`` or ``fixed``, see ``qumos_env.model.heads``.
        steps, learning_rate: of Adam, on all rows at once.
        axis: rotation axis of the angle encoding, ``rx``, ``ry`` or ``rz``.
        noise: provider -> noise of its hardware; a provider that is not named has none.
        seed: of initial angles and shots.

    Features are encoded angles in radians, float ``[rows, n_qubits]``; ``qumos_env.data.AngleEncoder`` makes them of any features.

    Attributes:
        classes_: labels in the order of ``predict_proba``.
        n_features_in_: number of features, one a qubit.
        parameters_: trained angles and head.

    Raises:
        QumosError: a design, settings or rows that do not fit; it is a ``ValueError``.
    """

    def __init__(
        self,
        design: Design | None = None,
        n_classes: int | None = None,
        *,
        head: str = "scaled",
        steps: int = 80,
        learning_rate: float = 0.1,
        axis: str = "ry",
        noise: Mapping[str, NoiseSpec] | None = None,
        seed: int = 0,
    ) -> None:
        self.design = design
        self.n_classes = n_classes
        self.head = head
        self.steps = steps
        self.learning_rate = learning_rate
        self.axis = axis
        self.noise = noise
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Trains on rows ``X`` ``[rows, n_qubits]`` with labels ``y`` ``[rows]``, from scratch; returns itself.

        Raises:
            QumosError, ValueError: rows, labels or arguments that do not fit.
            EvaluationFailure: training diverged.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        if self.seed < 0:
            raise QumosError(f"seed is {self.seed}, 0 or more is needed")
        labels = self._numbered(y)
        self.__dict__.pop("_model", None)  # the classes may be others
        self.parameters_: Parameters = self._model.train(X, labels, [self.seed])
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Class probabilities float64 ``[rows, classes]``, in the order of ``classes_``.

        Raises:
            QumosError, ValueError: rows that do not fit; sklearn's ``NotFittedError`` before ``fit``.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._model.answers(Parameters.stack([self.parameters_]), X[None], [[self.seed, len(X)]])[0]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Most probable class per row."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    @cached_property
    def _model(self) -> QNN:
        """The model that fits the fitted classes and number of features."""
        design = self.design or ry_cz_ry((0,) * self.n_features_in_, ("local",), DEFAULT_LAYERS)
        if design.n_qubits != self.n_features_in_:
            raise QumosError(f"X has {self.n_features_in_} features, the design encodes one on each of its {design.n_qubits} qubits")
        settings = ModelSection(head=self.head, steps=self.steps, learning_rate=self.learning_rate)
        return QNN(design, len(self.classes_), settings, self.axis, self.noise)

    def _numbered(self, y: np.ndarray) -> np.ndarray:
        """``y`` as numbers of ``classes_``, which it sets."""
        found, labels = np.unique(y, return_inverse=True)
        if self.n_classes is None:
            if len(found) < 2:
                raise QumosError("y has only one class, at least two are needed")
            self.classes_ = found
            return labels
        self.classes_ = np.arange(self.n_classes)
        outside = found[~np.isin(found, self.classes_)]
        if len(outside):
            raise QumosError(f"y: labels are 0 to {self.n_classes - 1} where n_classes is {self.n_classes}, got {outside[0]!r}")
        return y.astype(int)

    def __getstate__(self) -> dict[str, Any]:
        # Compiled circuits are made again when needed.
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_model"}
