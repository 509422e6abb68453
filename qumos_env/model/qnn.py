"""The distributed quantum neural network: parts that return ⟨Z⟩ of their qubits, and the owner's head on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from ..design import Design
from ..design.circuits import initial_angles
from ..errors import QumosError
from ..scenario.sections import DataSection, ModelSection
from ..seeds import label
from ..simulation.channels import NoiseSpec
from .heads import make_head, softmax
from .measured import MeasuredCircuits
from .training import Loss, Parameters, Watch, cross_entropy, one_hot, train_stack


class QNN:
    """A design as a trainable classifier.

    Args:
        design: the distributed design.
        n_classes: number of classes.
        settings: head and training.
        axis: rotation axis of the angle encoding.
        noise: provider -> noise of its hardware, in what the service answers; training and ``probabilities`` stay exact.

    Inputs are encoded angles, float ``[rows, n_qubits]`` in radians; labels are integers ``0..n_classes-1``. The exact,
    uncut circuit is simulated, which equals the cut one in expectation; only answers from shots take the cut ones, see ``answers``.
    """

    def __init__(
        self,
        design: Design,
        n_classes: int,
        settings: ModelSection | None = None,
        axis: str | None = None,
        noise: Mapping[str, NoiseSpec] | None = None,
    ) -> None:
        if n_classes < 2:
            raise QumosError(f"n_classes is {n_classes}, at least 2 are needed")
        self.design = design
        self.n_classes = n_classes
        self.settings = settings or ModelSection()
        self.axis = axis or DataSection.model_fields["axis"].default
        self.head = make_head(self.settings.head, design.n_qubits, n_classes)
        self.circuits = MeasuredCircuits(design, self.axis, noise)
        self.stack = self.circuits.exact

    def initial(self, key: Sequence[int]) -> Parameters:
        """Initial parameters, a function of the design and ``key`` alone."""
        return Parameters(initial_angles(self.design, key), self.head.initial(np.random.default_rng([*key, label("head")])))

    def train(self, inputs: np.ndarray, labels: np.ndarray, key: Sequence[int]) -> Parameters:
        """Trained parameters of one model; nothing is kept.

        Raises:
            EvaluationFailure: training diverged.
        """
        return self.train_many(inputs[None], labels[None], [key])[0]

    def train_many(self, inputs: np.ndarray, labels: np.ndarray, keys: Sequence[Sequence[int]]) -> Parameters:
        """Trains one model per key, all at once.

        Args:
            inputs: encoded angles ``[M, rows, n_qubits]``.
            labels: ``[M, rows]``.
            keys: M keys of initial parameters.

        Raises:
            EvaluationFailure: a training diverged.
        """
        return self.train_towards(inputs, one_hot(labels, self.n_classes), keys)

    def train_towards(
        self,
        inputs: np.ndarray,
        targets: np.ndarray,
        keys: Sequence[Sequence[int]],
        *,
        steps: int | None = None,
        loss: Loss = cross_entropy,
        weights: np.ndarray | None = None,
        watch: Watch | None = None,
    ) -> Parameters:
        """As ``train_many``, towards class probabilities ``targets`` ``[M, rows, n_classes]``.

        Args:
            inputs, targets: of every model.
            keys: M keys of initial parameters.
            steps: of Adam, default those of the settings.
            loss, weights, watch: see ``train_stack``.

        Raises:
            EvaluationFailure: a training diverged.
        """
        start = Parameters.stack([self.initial(key) for key in keys])
        effort = steps or self.settings.steps, self.settings.learning_rate
        return train_stack(self.stack, self.head, inputs, targets, start, *effort, loss=loss, weights=weights, watch=watch)

    def probabilities(self, parameters: Parameters, inputs: np.ndarray) -> np.ndarray:
        """Class probabilities float64 ``[rows, n_classes]`` for ``inputs`` ``[rows, n_qubits]``; with leading axes, of many models."""
        if inputs.ndim == 2:
            return self.probabilities(Parameters.stack([parameters]), inputs[None])[0]
        return softmax(self.head.logits(parameters.head, self.stack.readout(parameters.angles, inputs)))

    def answers(self, parameters: Parameters, inputs: np.ndarray, keys: Sequence[Sequence[int]]) -> np.ndarray:
        """What the service answers, ``[M, rows, n_classes]``: as ``probabilities``, but with the noise of the providers' hardware and from
        the design's shots, where there are any; see ``MeasuredCircuits``. ``keys`` seed the shots of each of the M models.

        Raises:
            QumosError: shots and more gate cuts than can be recombined.
        """
        readout = self.circuits.readout(parameters.angles, inputs, self.design.shots, keys)
        return softmax(self.head.logits(parameters.head, readout))

    def with_shots(self, shots: int | None) -> QNN:
        """The same model, answering from ``shots`` runs of every circuit, or exactly."""
        other = copy(self)
        other.design = replace(self.design, shots=shots)
        return other
