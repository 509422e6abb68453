"""No-loot controls: the best that the thief does with its rows and no stolen part.

They depend on the scenario and the draw, never on the design, so an agent cannot weaken its own yardstick. To the models that thieves
fit too (``qumos_env.evaluation.surrogates``) come some that need no loot: logistic regression, a support vector machine, and a quantum
model of the scenario's kind.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ..design.ansatz import interleaved, ry_cz_ry
from ..model.qnn import QNN
from ..scenario import Scenario


def linear(features: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Labels that a logistic regression on standardised raw ``features`` gives ``targets``; of one class alone, that class."""
    if (labels == labels[0]).all():  # few rows and label noise can leave no other
        return np.full(len(targets), labels[0])
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels).predict(targets)


def kernel(features: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Labels that a support vector machine with a Gaussian kernel on standardised raw ``features`` gives ``targets``."""
    return make_pipeline(StandardScaler(), SVC(C=10.0)).fit(features, labels).predict(targets)


RAW_CONTROLS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {"linear": linear, "kernel": kernel}
QNN_CONTROL = "reference-qnn"
CLONE_LAYERS = 3
"""Of a clone's ansatz; one layer clones markedly worse, whatever the answers."""


def reference_qnn(scenario: Scenario, n_classes: int, layers: int = 1) -> QNN:
    """An RY-CZ-RY ansatz under the scenario's head: what an adversary trains who knows the scenario but not the design."""
    parts = min(scenario.design.max_parts, scenario.design.qubits)
    design = ry_cz_ry(interleaved(scenario.design.qubits, parts), [scenario.provider_names[0]] * parts, layers)
    return QNN(design, n_classes, scenario.model, scenario.data.axis)
