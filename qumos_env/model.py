"""The distributed quantum neural network: parts that return ⟨Z⟩ of their qubits, and the owner's head on top."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cirq
import numpy as np

from .circuits import Block, initial_angles, input_symbol, joint_blocks, weight_symbol
from .design import Design
from .errors import EvaluationFailure, QumosError
from .heads import Head, make_head, softmax
from .scenario import DataSection, ModelSection
from .simulation.adjoint import CircuitEngine, EncodedBatch, Observable, Tape
from .simulation.program import compile_circuit

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Parameters:
    """Trained values: ``angles`` ``[n_trainable]`` in radians, in canonical gate order, and the ``head``'s flat vector."""

    angles: np.ndarray
    head: np.ndarray


class BlockEngine:
    """A block ready to run: ⟨Z⟩ of its qubits for a batch of its features."""

    def __init__(self, block: Block) -> None:
        line = [cirq.LineQubit(qubit) for qubit in block.qubits]
        program = compile_circuit(
            block.circuit, line, [input_symbol(q) for q in block.qubits], [weight_symbol(index) for index in block.weights]
        )
        self.qubits = list(block.qubits)
        self.weights = list(block.weights)
        self._engine = CircuitEngine(program, [Observable.from_cirq(cirq.PauliString(cirq.Z(qubit)), line) for qubit in line])

    def encode(self, inputs: np.ndarray) -> EncodedBatch:
        """``inputs`` are the angles of the whole register, float ``[rows, n_qubits]``."""
        return self._engine.encode(inputs[:, self.qubits])

    def forward(self, angles: np.ndarray, batch: EncodedBatch) -> tuple[np.ndarray, Tape]:
        """⟨Z⟩ ``[rows, qubits of the block]``; ``angles`` are those of the whole design."""
        return self._engine.forward(angles[self.weights], batch)

    def backward(self, tape: Tape, cotangents: np.ndarray) -> np.ndarray:
        """∂L/∂(angles of this block)."""
        return self._engine.backward(tape, cotangents)[0]


class CircuitStack:
    """Blocks side by side, as one map from register angles to ⟨Z⟩ of the register.

    Args:
        blocks: on distinct qubits; qubits in no block read 0.
        n_qubits: width of the register.
    """

    def __init__(self, blocks: Sequence[Block], n_qubits: int) -> None:
        self.n_qubits = n_qubits
        self.engines = tuple(BlockEngine(block) for block in blocks)

    def encode(self, inputs: np.ndarray) -> list[EncodedBatch]:
        """``inputs`` ``[rows, n_qubits]`` encoded for every block."""
        return [engine.encode(inputs) for engine in self.engines]

    def forward(self, angles: np.ndarray, batches: Sequence[EncodedBatch]) -> tuple[np.ndarray, list[Tape]]:
        """⟨Z⟩ float ``[rows, n_qubits]`` (a single row of zeros without blocks) and the tapes."""
        values = np.zeros((batches[0].size if batches else 1, self.n_qubits))
        tapes = []
        for engine, batch in zip(self.engines, batches, strict=True):
            part, tape = engine.forward(angles, batch)
            values[:, engine.qubits] = part
            tapes.append(tape)
        return values, tapes

    def backward(self, tapes: Sequence[Tape], cotangents: np.ndarray, n_angles: int) -> np.ndarray:
        """∂L/∂angles ``[n_angles]``."""
        gradient = np.zeros(n_angles)
        for engine, tape in zip(self.engines, tapes, strict=True):
            if engine.weights:
                gradient[engine.weights] = engine.backward(tape, cotangents[:, engine.qubits])
        return gradient


def minimise(
    gradient: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, steps: int, learning_rate: float
) -> np.ndarray:
    """Adam (Kingma and Ba, 2015) for ``steps`` full-batch steps.

    Raises:
        EvaluationFailure: the loss or a gradient is not finite.
    """
    values, mean, square = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for step in range(1, steps + 1):
        loss, slope = gradient(values)
        if not (np.isfinite(loss) and np.isfinite(slope).all()):
            raise EvaluationFailure(f"training diverged in step {step}: the loss is {loss}")
        mean += (1 - _BETA1) * (slope - mean)
        square += (1 - _BETA2) * (slope * slope - square)
        corrected = np.sqrt(square / (1 - _BETA2**step)) + _EPSILON
        values -= learning_rate / (1 - _BETA1**step) * mean / corrected
    return values


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean cross-entropy against ``targets`` ``[rows, classes]`` (probabilities) and ∂/∂logits."""
    probabilities = softmax(logits)
    loss = -float(np.sum(targets * np.log(np.maximum(probabilities, 1e-300)))) / len(targets)
    return loss, (probabilities - targets) / len(targets)


def one_hot(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """float64 ``[rows, n_classes]``."""
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
    """Trains the angles of ``stack`` and the ``head`` on it to give ``targets``.

    Args:
        stack: circuits whose angles are trained; none trains the head alone.
        head: on ⟨Z⟩ of the whole register.
        inputs: encoded angles ``[rows, n_qubits]``.
        targets: class probabilities ``[rows, n_classes]``.
        start: where training starts.
        steps, learning_rate: of Adam.
        frozen: ⟨Z⟩ ``[rows, n_qubits]`` of circuits that are not trained, added to that of ``stack``.

    Raises:
        EvaluationFailure: training diverged.
    """
    batches = stack.encode(inputs)
    n_angles = len(start.angles)
    constant = np.zeros((len(targets), stack.n_qubits)) if frozen is None else frozen

    def gradient(values: np.ndarray) -> tuple[float, np.ndarray]:
        angles, parameters = values[:n_angles], values[n_angles:]
        readout, tapes = stack.forward(angles, batches)
        readout = constant + readout
        loss, cotangents = cross_entropy(head.logits(parameters, readout), targets)
        head_slope, readout_slope = head.backward(parameters, readout, cotangents)
        return loss, np.concatenate([stack.backward(tapes, readout_slope, n_angles), head_slope])

    values = minimise(gradient, np.concatenate([start.angles, start.head]), steps, learning_rate)
    return Parameters(values[:n_angles], values[n_angles:])


class DistributedQNN:
    """A design as a trainable classifier.

    Args:
        design: the distributed design.
        n_classes: number of classes.
        settings: head and training.
        axis: rotation axis of the angle encoding.

    Inputs are encoded angles, float ``[rows, n_qubits]`` in radians; labels are integers ``0..n_classes-1``. The exact,
    uncut circuit is simulated, which equals the cut one in expectation.
    """

    def __init__(self, design: Design, n_classes: int, settings: ModelSection | None = None, axis: str | None = None) -> None:
        self.design = design
        self.n_classes = n_classes
        self.settings = settings or ModelSection()
        self.axis = axis or DataSection.model_fields["axis"].default
        self.head = make_head(self.settings.head, design.n_qubits, n_classes)
        self.stack = CircuitStack(joint_blocks(design, self.axis), design.n_qubits)
        self.parameters: Parameters | None = None

    def initial(self, key: Sequence[int]) -> Parameters:
        """Initial parameters, a function of the design and ``key`` alone."""
        return Parameters(initial_angles(self.design, key), self.head.initial(np.random.default_rng([*key, 0x4EAD])))

    def train(self, inputs: np.ndarray, labels: np.ndarray, key: Sequence[int]) -> Parameters:
        """Trained parameters; the model itself does not change.

        Raises:
            EvaluationFailure: training diverged.
        """
        targets = one_hot(labels, self.n_classes)
        return train_stack(self.stack, self.head, inputs, targets, self.initial(key), self.settings.steps, self.settings.learning_rate)

    def probabilities(self, parameters: Parameters, inputs: np.ndarray) -> np.ndarray:
        """Class probabilities float64 ``[rows, n_classes]``."""
        readout, _ = self.stack.forward(parameters.angles, self.stack.encode(inputs))
        return softmax(self.head.logits(parameters.head, readout))

    def fit(self, inputs: np.ndarray, labels: np.ndarray, seed: int = 0) -> DistributedQNN:
        """Trains and keeps the parameters; returns the model."""
        labels = np.asarray(labels)
        if labels.shape != (len(inputs),) or labels.min() < 0 or labels.max() >= self.n_classes:
            raise QumosError(f"labels: one whole number from 0 to {self.n_classes - 1} per row of inputs is needed")
        self.parameters = self.train(np.asarray(inputs, float), labels.astype(int), [seed])
        return self

    def predict_proba(self, inputs: np.ndarray) -> np.ndarray:
        """Class probabilities of the fitted model; raises QumosError before ``fit``."""
        if self.parameters is None:
            raise QumosError("DistributedQNN: call fit before predict_proba")
        return self.probabilities(self.parameters, np.asarray(inputs, float))

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Most probable class per row."""
        return self.predict_proba(inputs).argmax(axis=1)
