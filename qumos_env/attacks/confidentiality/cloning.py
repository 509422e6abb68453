"""Clones of a service: QNNs that an adversary trains on answers, alone or as a bagged ensemble.

All clones of one structure train at once. Bagging (Breiman, 1996) and filtering are weights of rows, so that members that see
different rows still share arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data import Preprocessor
from ...model.heads import softmax
from ...model.qnn import QNN
from ...model.training import Parameters
from ...scenario.sections import DataSection

HUBER_DELTA = 0.5
"""Where the Huber loss of a probability turns from quadratic to linear."""


def huber_loss(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Huber loss (Huber, 1964) of the class probabilities, summed over classes, and ∂/∂logits; see ``model.training.Loss``.

    Per class with error e: e²/2 up to ``HUBER_DELTA``, beyond it δ·(|e| − δ/2); a wildly wrong answer of a noisy service pulls
    no harder than a moderately wrong one.
    """
    probabilities = softmax(logits)
    errors = probabilities - targets
    clipped = np.clip(errors, -HUBER_DELTA, HUBER_DELTA)
    loss = np.sum(clipped * (errors - clipped / 2), axis=-1)
    return loss, probabilities * (clipped - np.sum(clipped * probabilities, axis=-1, keepdims=True))


def bootstrap_weights(rows: int, generator: np.random.Generator) -> np.ndarray:
    """The share of each of ``rows`` rows in a bootstrap sample of their number, float64 ``[rows]``, summing to 1."""
    return generator.multinomial(rows, np.full(rows, 1 / rows)) / rows


def fit_preprocessors(
    features: Sequence[np.ndarray], answers: np.ndarray | None, section: DataSection, width: int
) -> tuple[Preprocessor, ...]:
    """One preprocessing per draw, fitted on the adversary's ``features`` ``[rows, f]``.

    LDA takes the answered labels for the classes; PCA stands in where there are no answers, or only one class among them.

    Args:
        features: raw rows of every draw.
        answers: what the service answered to them, ``[K, rows, classes]``, or ``None`` without a service.
        section: the scenario's data section, which the adversary knows.
        width: number of qubits.
    """
    without_classes = section.model_copy(update={"reducer": "pca"}) if section.reducer == "lda" else section
    if answers is None:
        return tuple(Preprocessor.fit(rows, without_classes, width) for rows in features)
    fitted = []
    for rows, labels in zip(features, answers.argmax(axis=-1), strict=True):
        chosen = section if len(np.unique(labels)) > 1 else without_classes
        fitted.append(Preprocessor.fit(rows, chosen, width, labels=labels))
    return tuple(fitted)


@dataclass(frozen=True, eq=False)
class Clones:
    """Ensembles of clones, one ensemble per draw; a single clone is an ensemble of one.

    Attributes:
        model: structure of every clone.
        parameters: of all clones ``[members * K, ...]``, member by member.
        preprocessors: the adversary's, one per draw.
    """

    model: QNN
    parameters: Parameters
    preprocessors: tuple[Preprocessor, ...]

    @property
    def members(self) -> int:
        """Clones in an ensemble."""
        return len(self.parameters.angles) // len(self.preprocessors)

    def votes(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities ``[members, K, rows, classes]`` of every clone for raw ``features`` ``[K, rows, f]``."""
        inputs = np.stack([fitted.transform(rows) for fitted, rows in zip(self.preprocessors, features, strict=True)])
        found = self.model.probabilities(self.parameters, np.tile(inputs, (self.members, 1, 1)))
        return found.reshape(self.members, *inputs.shape[:2], -1)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities ``[K, rows, classes]``: the mean over the members."""
        return self.votes(features).mean(axis=0)
