"""The distributed quantum neural network: parts that return ⟨Z⟩ of their qubits, and the owner's head on top."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cirq
import numpy as np

from .circuits import Block, initial_angles, input_symbol, joint_blocks, weight_symbol
from .design import Design
from .errors import EvaluationFailure, QumosError
from .heads import Head, make_head, softmax
from .noisy_stack import NoisyStack
from .scenario import DataSection, ModelSection
from .simulation.adjoint import CircuitEngine, EncodedBatch, Observable, Tape
from .simulation.channels import NoiseSpec
from .simulation.dense import DenseBatch, DenseEngine, DenseTape
from .simulation.program import compile_circuit
from .simulation.sampling import sampled_z

if TYPE_CHECKING:
    from .cutting.estimator import CutEngine

# Up to this width of a block all models share dense linear algebra, above each runs on qsim. Measured, see docs/engine.md.
DENSE_MAX_QUBITS = 5
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Parameters:
    """Trained values: ``angles`` ``[n_trainable]`` in radians, in canonical gate order, and the ``head``'s flat vector.

    Functions that train or run many models of one design take both with a leading axis for the models.
    """

    angles: np.ndarray
    head: np.ndarray

    @classmethod
    def stack(cls, many: Sequence[Parameters]) -> Parameters:
        """Many models' parameters as one, with a leading axis."""
        return cls(np.stack([one.angles for one in many]), np.stack([one.head for one in many]))

    def __getitem__(self, model: int) -> Parameters:
        """The parameters of one of many models."""
        return Parameters(self.angles[model], self.head[model])


class BlockEngine:
    """A block ready to run: ⟨Z⟩ of its qubits, for M models at once.

    All models of a narrow block share dense linear algebra; each model of a wide one runs on qsim.
    """

    def __init__(self, block: Block) -> None:
        line = [cirq.LineQubit(qubit) for qubit in block.qubits]
        self._program = compile_circuit(
            block.circuit, line, [input_symbol(q) for q in block.qubits], [weight_symbol(index) for index in block.weights]
        )
        self.qubits = list(block.qubits)
        self.weights = list(block.weights)
        self._line = line

    @cached_property
    def _qsim(self) -> CircuitEngine:
        return CircuitEngine(self._program, [Observable.from_cirq(cirq.PauliString(cirq.Z(qubit)), self._line) for qubit in self._line])

    @cached_property
    def _dense(self) -> DenseEngine:
        return DenseEngine(self._program)

    def encode(self, inputs: np.ndarray) -> DenseBatch | list[EncodedBatch]:
        """``inputs`` are the angles of the whole register, float ``[M, rows, n_qubits]``."""
        mine = inputs[:, :, self.qubits]
        if len(self.qubits) <= DENSE_MAX_QUBITS:
            return self._dense.encode(mine)
        return [self._qsim.encode(one) for one in mine]

    def forward(self, angles: np.ndarray, batch: DenseBatch | list[EncodedBatch]) -> tuple[np.ndarray, DenseTape | list[Tape]]:
        """⟨Z⟩ ``[M, rows, qubits of the block]``; ``angles`` ``[M, n_trainable]`` are those of the whole design."""
        mine = angles[:, self.weights]
        if isinstance(batch, DenseBatch):
            return self._dense.forward(mine, batch)
        results = [self._qsim.forward(one, encoded) for one, encoded in zip(mine, batch, strict=True)]
        return np.stack([values for values, _ in results]), [tape for _, tape in results]

    def outcome_probabilities(self, angles: np.ndarray, batch: DenseBatch | list[EncodedBatch]) -> list[np.ndarray]:
        """Per model, probabilities ``[rows, 2**qubits]`` of the outcomes of measuring every qubit of the block."""
        _, tape = self.forward(angles, batch)
        if isinstance(tape, DenseTape):
            final = list(tape.final)
        else:
            final = [one.states for one in tape]
        return [(states.real**2 + states.imag**2).T for states in final]

    def backward(self, tape: DenseTape | list[Tape], cotangents: np.ndarray) -> np.ndarray:
        """∂L/∂(angles of this block) ``[M, angles]`` for ∂L/∂⟨Z⟩ ``[M, rows, qubits of the block]``."""
        if isinstance(tape, DenseTape):
            return self._dense.backward(tape, cotangents)
        return np.stack([self._qsim.backward(one, slope)[0] for one, slope in zip(tape, cotangents, strict=True)])


class CircuitStack:
    """Blocks side by side, as one map from register angles to ⟨Z⟩ of the register, for M models at once.

    Args:
        blocks: on distinct qubits; qubits in no block read 0.
        n_qubits: width of the register.
    """

    def __init__(self, blocks: Sequence[Block], n_qubits: int) -> None:
        self.n_qubits = n_qubits
        self.engines = tuple(BlockEngine(block) for block in blocks)

    def encode(self, inputs: np.ndarray) -> StackBatch:
        """``inputs`` ``[M, rows, n_qubits]`` encoded for every block."""
        return StackBatch(inputs.shape[:2], [engine.encode(inputs) for engine in self.engines])

    def forward(self, angles: np.ndarray, batch: StackBatch) -> tuple[np.ndarray, list[DenseTape | list[Tape]]]:
        """⟨Z⟩ float ``[M, rows, n_qubits]`` for ``angles`` ``[M, n_trainable]``, and the tapes."""
        values = np.zeros((*batch.shape, self.n_qubits))
        tapes = []
        for engine, encoded in zip(self.engines, batch.blocks, strict=True):
            part, tape = engine.forward(angles, encoded)
            values[:, :, engine.qubits] = part
            tapes.append(tape)
        return values, tapes

    def backward(self, tapes: Sequence[DenseTape | list[Tape]], cotangents: np.ndarray, n_angles: int) -> np.ndarray:
        """∂L/∂angles ``[M, n_angles]``."""
        gradient = np.zeros((len(cotangents), n_angles))
        for engine, tape in zip(self.engines, tapes, strict=True):
            if engine.weights:
                gradient[:, engine.weights] = engine.backward(tape, cotangents[:, :, engine.qubits])
        return gradient

    def readout(self, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """⟨Z⟩ float ``[M, rows, n_qubits]``."""
        return self.forward(angles, self.encode(inputs))[0]

    def sampled_readout(self, angles: np.ndarray, inputs: np.ndarray, shots: int, keys: Sequence[Sequence[int]]) -> np.ndarray:
        """⟨Z⟩ float ``[M, rows, n_qubits]`` estimated from ``shots`` runs of every block per row; ``keys`` seed the M samplings."""
        batch = self.encode(inputs)
        values = np.zeros((*batch.shape, self.n_qubits))
        for number, (engine, encoded) in enumerate(zip(self.engines, batch.blocks, strict=True)):
            for model, probabilities in enumerate(engine.outcome_probabilities(angles, encoded)):
                values[model][:, engine.qubits] = sampled_z(probabilities, shots, np.random.default_rng([*keys[model], number]))
        return values


@dataclass(frozen=True)
class StackBatch:
    """Encoded inputs of every block; ``shape`` is (models, rows)."""

    shape: tuple[int, ...]
    blocks: list[DenseBatch | list[EncodedBatch]]


def minimise(
    gradient: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], start: np.ndarray, steps: int, learning_rate: float
) -> np.ndarray:
    """Adam (Kingma and Ba, 2015) for ``steps`` full-batch steps, elementwise, so that many problems can share an array.

    Args:
        gradient: values to (losses, slopes of the shape of the values).
        start: where to begin.
        steps, learning_rate: of Adam.

    Raises:
        EvaluationFailure: a loss or a gradient is not finite.
    """
    values, mean, square = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for step in range(1, steps + 1):
        loss, slope = gradient(values)
        if not (np.isfinite(loss).all() and np.isfinite(slope).all()):
            raise EvaluationFailure(f"training diverged in step {step}: the loss is {loss}")
        mean += (1 - _BETA1) * (slope - mean)
        square += (1 - _BETA2) * (slope * slope - square)
        corrected = np.sqrt(square / (1 - _BETA2**step)) + _EPSILON
        values -= learning_rate / (1 - _BETA1**step) * mean / corrected
        if not np.isfinite(values).all():
            raise EvaluationFailure(f"training diverged in step {step}: an angle or a head parameter is not finite")
    return values


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy against ``targets`` ``[..., rows, classes]`` (probabilities), the mean over rows ``[...]``, and ∂/∂logits."""
    probabilities = softmax(logits)
    rows = targets.shape[-2]
    loss = -np.sum(targets * np.log(np.maximum(probabilities, 1e-300)), axis=(-2, -1)) / rows
    return loss, (probabilities - targets) / rows


def one_hot(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """float64 ``[..., n_classes]``."""
    return np.eye(n_classes)[labels]


def train_stack(
    stack: CircuitStack,
    head: Head,
    inputs: np.ndarray,
    targets: np.ndarray,
    start: Parameters,
    steps: int,
    learning_rate: float,
    frozen: np.ndarray | None = None,
) -> Parameters:
    """Trains M models of one structure: the angles of ``stack`` and the ``head`` on it, to give ``targets``.

    Args:
        stack: circuits whose angles are trained; none trains the heads alone.
        head: on ⟨Z⟩ of the whole register.
        inputs: encoded angles ``[M, rows, n_qubits]``.
        targets: class probabilities ``[M, rows, n_classes]``.
        start: where training starts, with a leading axis of M.
        steps, learning_rate: of Adam.
        frozen: ⟨Z⟩ ``[M, rows, n_qubits]`` of circuits that are not trained, added to that of ``stack``.

    Raises:
        EvaluationFailure: a training diverged.
    """
    batch = stack.encode(inputs)
    n_angles = start.angles.shape[1]
    constant = np.zeros((1, 1, stack.n_qubits)) if frozen is None else frozen

    def gradient(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        angles, parameters = values[:, :n_angles], values[:, n_angles:]
        readout, tapes = stack.forward(angles, batch)
        readout = constant + readout
        loss, cotangents = cross_entropy(head.logits(parameters, readout), targets)
        head_slope, readout_slope = head.backward(parameters, readout, cotangents)
        return loss, np.concatenate([stack.backward(tapes, readout_slope, n_angles), head_slope], axis=1)

    values = minimise(gradient, np.concatenate([start.angles, start.head], axis=1), steps, learning_rate)
    return Parameters(values[:, :n_angles], values[:, n_angles:])


class DistributedQNN:
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
        self.stack = CircuitStack(joint_blocks(design, self.axis), design.n_qubits)
        self.noise = dict(noise or {})
        self.parameters: Parameters | None = None

    @cached_property
    def _noisy(self) -> NoisyStack:
        return NoisyStack(self.design, self.axis, self.noise)

    @cached_property
    def _cut(self) -> CutEngine:
        from .cutting.estimator import CutEngine  # which builds on this module

        return CutEngine(self.design, self.axis)

    def initial(self, key: Sequence[int]) -> Parameters:
        """Initial parameters, a function of the design and ``key`` alone."""
        return Parameters(initial_angles(self.design, key), self.head.initial(np.random.default_rng([*key, 0x4EAD])))

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
        start = Parameters.stack([self.initial(key) for key in keys])
        targets = one_hot(labels, self.n_classes)
        return train_stack(self.stack, self.head, inputs, targets, start, self.settings.steps, self.settings.learning_rate)

    def probabilities(self, parameters: Parameters, inputs: np.ndarray) -> np.ndarray:
        """Class probabilities float64 ``[rows, n_classes]`` for ``inputs`` ``[rows, n_qubits]``; with leading axes, of many models."""
        if inputs.ndim == 2:
            return self.probabilities(Parameters.stack([parameters]), inputs[None])[0]
        return softmax(self.head.logits(parameters.head, self.stack.readout(parameters.angles, inputs)))

    def answers(self, parameters: Parameters, inputs: np.ndarray, keys: Sequence[Sequence[int]]) -> np.ndarray:
        """What the service answers, ``[M, rows, n_classes]``: as ``probabilities``, but with the noise of the providers' hardware and from
        the design's shots, where there are any.

        With shots, every variant of every part of a design with gate cuts is run that often, and ⟨Z⟩ is the product-of-means estimate from
        their results (see ``cutting.estimator``), which may leave [-1, 1]. Its variance is that of ``CutEngine.predicted_variance``: more
        than the uncut circuit's from as many runs in all, often less than from as many shots. With noise too it is the uncut circuit that
        is sampled, each cut gate with the noise of one-qubit gates, so the variance of those answers is that of the uncut circuit.

        ``keys`` seed the shots of each of the M models.

        Raises:
            QumosError: shots and more gate cuts than can be recombined.
        """
        stack = self._noisy if self.noise else self.stack
        if self.design.shots is None:
            readout = stack.readout(parameters.angles, inputs)
        elif self.design.cut_gates and not self.noise:
            readout = self._recombined_readout(parameters.angles, inputs, self.design.shots, keys)
        else:
            readout = stack.sampled_readout(parameters.angles, inputs, self.design.shots, keys)
        return softmax(self.head.logits(parameters.head, readout))

    def _recombined_readout(self, angles: np.ndarray, inputs: np.ndarray, shots: int, keys: Sequence[Sequence[int]]) -> np.ndarray:
        """⟨Z⟩ float ``[M, rows, n_qubits]``, each model's from its own generator, so that it does not depend on the models beside it."""
        values = []
        for model, key in enumerate(keys):
            one = slice(model, model + 1)
            results = self._cut.run(angles[one], inputs[one], shots, np.random.default_rng(key))
            values.append(self._cut.reconstruct(angles[one], results)[0])
        return np.stack(values)

    def fit(self, inputs: np.ndarray, labels: np.ndarray, seed: int = 0) -> DistributedQNN:
        """Trains and keeps the parameters; returns the model. Raises QumosError for inputs, labels or a seed that do not fit."""
        inputs, labels = self._checked(inputs), np.asarray(labels)
        whole = labels.shape == (len(inputs),) and np.issubdtype(labels.dtype, np.number) and bool(np.all(labels == np.floor(labels)))
        if not whole or labels.min() < 0 or labels.max() >= self.n_classes:
            raise QumosError(f"labels: one whole number from 0 to {self.n_classes - 1} per row of inputs is needed")
        if seed < 0:
            raise QumosError(f"seed is {seed}, 0 or more is needed")
        self.parameters = self.train(inputs, labels.astype(int), [seed])
        return self

    def _checked(self, inputs: np.ndarray) -> np.ndarray:
        values = np.asarray(inputs, float)
        if values.ndim != 2 or values.shape[1] != self.design.n_qubits or len(values) == 0:
            raise QumosError(f"inputs: shape [rows, {self.design.n_qubits}] with at least one row needed, got {list(values.shape)}")
        return values

    def predict_proba(self, inputs: np.ndarray) -> np.ndarray:
        """Class probabilities of the fitted model; raises QumosError before ``fit``."""
        if self.parameters is None:
            raise QumosError("DistributedQNN: call fit before predict_proba")
        return self.probabilities(self.parameters, self._checked(inputs))

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Most probable class per row."""
        return self.predict_proba(inputs).argmax(axis=1)
