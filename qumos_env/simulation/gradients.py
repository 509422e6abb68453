"""Gradients of expectation values, four methods behind one function, exact or from shots.

All differentiate L = Σ ``cotangents`` · expectation values by the shared weights, for a batch of inputs:

- ``adjoint``: exact, one pass back; a simulator's privilege.
- ``parameter-shift``: exact, and unbiased from shots: ∂⟨O⟩/∂θ = ½[⟨O⟩(θ + π/2) - ⟨O⟩(θ - π/2)] for a gate exp(-iθP/2) (Mitarai et
  al., arXiv:1803.00745; Schuld et al., arXiv:1811.11184). The rule holds for the angle of one gate, so every occurrence of a weight
  is shifted by itself, two circuits each, and the chain rule adds them up with their scales.
- ``finite-difference``: central, two circuits per weight, error of order step².
- ``spsa``: two circuits in all: central difference along a random direction of signs (Spall, IEEE Trans. Autom. Control 37, 332,
  1992), unbiased up to order step², noisy.
"""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, overload

import numpy as np

from ..errors import QumosError, unknown
from .adjoint import CircuitEngine, EncodedBatch
from .channels import NoisyProgram
from .instructions import Program, Rotation
from .noise import NoisyEngine
from .sampling import Measurement, check_shots, measurements, pure_probabilities, sampled_counts
from .states import checked_weights

Engine = CircuitEngine | NoisyEngine
# Exact values are of single precision: below, their rounding shows; above, the curvature. Shots are noisier: their spread goes with 1/step.
EXACT_STEP = 0.02
SAMPLED_STEP = 0.3


@dataclass(frozen=True)
class Sampler:
    """Measurement by ``shots`` shots per circuit and measurement basis, drawn from ``generator``."""

    shots: int
    generator: np.random.Generator


@dataclass(frozen=True)
class Occurrences:
    """The rotations of a program in order: rotation k turns by ``scales[k]·w[weights[k]] + offsets[k]``."""

    weights: np.ndarray
    scales: np.ndarray
    offsets: np.ndarray


class Evaluation(Protocol):
    """Expectation values of one circuit on one batch, as functions of the weights: what a gradient method works on."""

    @property
    def n_weights(self) -> int:
        """Number of weights."""

    def values(self, weights: np.ndarray, sampler: Sampler | None) -> np.ndarray:
        """``[B, observables]``, exact without a sampler."""

    def adjoint(self, weights: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """Exact gradient ``[weights]``."""

    def per_occurrence(self) -> tuple[Evaluation, Occurrences]:
        """The same with a weight of its own for the angle of every rotation."""


@dataclass(frozen=True)
class Request:
    """What a gradient method is asked for: at ``weights``, for ``cotangents`` ``[B, observables]``; ``step`` as the method reads it."""

    evaluation: Evaluation
    weights: np.ndarray
    cotangents: np.ndarray
    sampler: Sampler | None
    generator: np.random.Generator | None
    step: float

    def loss_difference(self, evaluation: Evaluation, plus: np.ndarray, minus: np.ndarray) -> float:
        """L(plus) - L(minus): two circuits."""
        return float(np.sum(self.cotangents * (evaluation.values(plus, self.sampler) - evaluation.values(minus, self.sampler))))


GradientMethod = Callable[[Request], np.ndarray]


def adjoint(request: Request) -> np.ndarray:
    """Exact, by the engine's own backward pass."""
    if request.sampler is not None:
        raise QumosError("shots: adjoint gradients are exact; from shots choose parameter-shift, finite-difference or spsa")
    return request.evaluation.adjoint(request.weights, request.cotangents)


def parameter_shift(request: Request) -> np.ndarray:
    """Two circuits per occurrence of a weight."""
    separate, occurrences = request.evaluation.per_occurrence()
    angles = request.weights[occurrences.weights] * occurrences.scales + occurrences.offsets
    slopes = np.zeros(len(request.weights))
    for number, (weight, scale) in enumerate(zip(occurrences.weights, occurrences.scales, strict=True)):
        shift = np.zeros(len(angles))
        shift[number] = math.pi / 2
        slopes[weight] += scale / 2 * request.loss_difference(separate, angles + shift, angles - shift)
    return slopes


def finite_difference(request: Request) -> np.ndarray:
    """Central differences of width ``2·step``, two circuits per weight."""
    slopes = np.zeros(len(request.weights))
    for number in range(len(slopes)):
        shift = np.zeros(len(slopes))
        shift[number] = request.step
        change = request.loss_difference(request.evaluation, request.weights + shift, request.weights - shift)
        slopes[number] = change / (2 * request.step)
    return slopes


def spsa(request: Request) -> np.ndarray:
    """Two circuits in all: the slope along random signs times ``step``, read as a gradient."""
    if request.generator is None:
        raise QumosError("generator: spsa draws random directions and needs one")
    signs = request.generator.choice([-1.0, 1.0], size=len(request.weights))
    shift = request.step * signs
    return request.loss_difference(request.evaluation, request.weights + shift, request.weights - shift) / (2 * request.step) * signs


GRADIENT_METHODS: dict[str, GradientMethod] = {
    "adjoint": adjoint,
    "parameter-shift": parameter_shift,
    "finite-difference": finite_difference,
    "spsa": spsa,
}


def expectation_gradient(
    engine: Engine,
    weights: np.ndarray,
    batch: EncodedBatch | np.ndarray,
    cotangents: np.ndarray,
    method: str = "adjoint",
    *,
    generator: np.random.Generator | None = None,
    shots: int | None = None,
    step: float | None = None,
) -> np.ndarray:
    """∂L/∂weights float64 ``[weights]`` of L = Σ ``cotangents`` · expectation values.

    Args:
        engine: exact or noisy.
        weights: ``[weights]`` in radians.
        batch: inputs ``[B, inputs]`` in radians, or what ``CircuitEngine.encode`` made of them.
        cotangents: ``[B, observables]``.
        method: a key of ``GRADIENT_METHODS``.
        generator: source of the shots and of spsa's directions.
        shots: measurements per circuit, sample and measurement basis; default exact values.
        step: of finite differences and spsa, in radians; default 0.02 for exact values, 0.3 for shots.

    Raises:
        QumosError: an unknown method, shots without a generator, below 1 or not whole, shots for the adjoint method, a step not positive,
            cotangents of another shape or not finite, and whatever the engine refuses.
    """
    if method not in GRADIENT_METHODS:
        raise unknown("gradient method", method, GRADIENT_METHODS)
    sampler = _sampler(shots, generator)
    evaluation = _evaluation(engine, batch)
    cotangents = np.asarray(cotangents, np.float64)
    expected = (evaluation.size, len(engine.observables))
    if cotangents.shape != expected:
        raise QumosError(f"cotangents: shape {list(expected)} needed, got {list(cotangents.shape)}")
    if not np.isfinite(cotangents).all():
        raise QumosError("cotangents: a value is not finite")
    if step is None:
        step = EXACT_STEP if shots is None else SAMPLED_STEP
    if not (math.isfinite(step) and step > 0):
        raise QumosError(f"step is {step}, a positive number is needed")
    weights = checked_weights(weights, evaluation.n_weights)
    return GRADIENT_METHODS[method](Request(evaluation, weights, cotangents, sampler, generator, step))


def sampled_expectations(
    engine: Engine, weights: np.ndarray, batch: EncodedBatch | np.ndarray, shots: int, generator: np.random.Generator
) -> np.ndarray:
    """Expectation values float64 ``[B, observables]`` estimated from shots; with a ``NoisyEngine`` of the noisy outcomes.

    Args:
        engine, weights, batch: as for ``expectation_gradient``.
        shots: per sample and measurement basis; Pauli strings that agree on shared qubits share their shots.
        generator: source of the outcomes.

    Raises:
        QumosError: ``shots`` below 1 or not whole, and whatever the engine refuses.
    """
    evaluation = _evaluation(engine, batch)
    return evaluation.values(checked_weights(weights, evaluation.n_weights), _sampler(shots, generator))


def _sampler(shots: int | None, generator: np.random.Generator | None) -> Sampler | None:
    if shots is None:
        return None
    check_shots(shots)
    if generator is None:
        raise QumosError("generator: shots are random and need one")
    return Sampler(shots, generator)


def _measured(ways: Sequence[Measurement], probabilities: Iterable[np.ndarray], sampler: Sampler) -> np.ndarray:
    """``[B, observables]`` from the outcome probabilities ``[B, 2**n]`` of every measurement, taken one by one."""
    counts = (sampled_counts(exact, sampler.shots, sampler.generator) for exact in probabilities)
    return np.sum([count @ way.values.T for count, way in zip(counts, ways, strict=True)], axis=0) / sampler.shots


# Engines on a batch


@dataclass(frozen=True)
class _OnCircuit:
    engine: CircuitEngine
    batch: EncodedBatch

    @property
    def n_weights(self) -> int:
        return self.engine.program.n_weights

    @property
    def size(self) -> int:
        return self.batch.size

    def values(self, weights: np.ndarray, sampler: Sampler | None) -> np.ndarray:
        if sampler is None:
            return self.engine.forward(weights, self.batch)[0].astype(np.float64)
        ways = measurements(self.engine.observables, self.engine.program.n_qubits)
        parts = [_measured(ways, (pure_probabilities(states, way.basis) for way in ways), sampler) for states in self._final(weights)]
        return np.concatenate(parts)

    def _final(self, weights: np.ndarray) -> Iterator[np.ndarray]:
        """Output states ``[2**n, samples]``, chunk by chunk."""
        for batch in self.engine.parts(self.batch):
            yield self.engine.forward(weights, batch)[1].states

    def adjoint(self, weights: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        _, tape = self.engine.forward(weights, self.batch)
        return self.engine.backward(tape, cotangents)[0]

    def per_occurrence(self) -> tuple[Evaluation, Occurrences]:
        engine, occurrences = _separate(self.engine)
        return _OnCircuit(engine, self.batch), occurrences


@dataclass(frozen=True)
class _OnNoisy:
    engine: NoisyEngine
    inputs: np.ndarray

    @property
    def n_weights(self) -> int:
        return self.engine.program.n_weights

    @property
    def size(self) -> int:
        return len(self.inputs)

    def values(self, weights: np.ndarray, sampler: Sampler | None) -> np.ndarray:
        if sampler is None:
            return self.engine.forward(weights, self.inputs).astype(np.float64)
        ways = self.engine.measurements
        return _measured(ways, self.engine.probabilities_by_basis(weights, self.inputs, [way.basis for way in ways]), sampler)

    def adjoint(self, weights: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        return self.engine.gradient(weights, self.inputs, cotangents)

    def per_occurrence(self) -> tuple[Evaluation, Occurrences]:
        engine, occurrences = _separate(self.engine)
        return _OnNoisy(engine, self.inputs), occurrences


def _evaluation(engine: Engine, batch: EncodedBatch | np.ndarray) -> _OnCircuit | _OnNoisy:
    if isinstance(engine, NoisyEngine):
        return _OnNoisy(engine, engine.checked_inputs(batch.inputs if isinstance(batch, EncodedBatch) else batch))
    return _OnCircuit(engine, batch if isinstance(batch, EncodedBatch) else engine.encode(batch))


# A weight per occurrence

# Laying a circuit out costs more than running it, so an engine's separated twin is kept as long as the engine.
_SEPARATED: weakref.WeakKeyDictionary[Engine, tuple[Engine, Occurrences]] = weakref.WeakKeyDictionary()


@overload
def _separate(engine: CircuitEngine) -> tuple[CircuitEngine, Occurrences]: ...
@overload
def _separate(engine: NoisyEngine) -> tuple[NoisyEngine, Occurrences]: ...
def _separate(engine: Engine) -> tuple[Engine, Occurrences]:
    if engine not in _SEPARATED:
        counter = _Counter()
        twin: Engine
        if isinstance(engine, NoisyEngine):
            noisy: NoisyProgram = engine.program
            instructions = tuple(counter(item) if isinstance(item, Rotation) else item for item in noisy.instructions)
            twin = engine.with_program(replace(noisy, n_weights=len(counter.found), instructions=instructions))
        else:
            program: Program = engine.program
            segments = tuple(tuple(counter(item) if isinstance(item, Rotation) else item for item in gates) for gates in program.segments)
            # A copy comes without the laid-out circuits of the original.
            twin = copy.copy(engine)
            twin.program = replace(program, n_weights=len(counter.found), segments=segments)
        _SEPARATED[engine] = twin, counter.occurrences()
    return _SEPARATED[engine]


class _Counter:
    """Numbers rotations in the order in which it meets them."""

    def __init__(self) -> None:
        self.found: list[Rotation] = []

    def __call__(self, rotation: Rotation) -> Rotation:
        self.found.append(rotation)
        return replace(rotation, weight=len(self.found) - 1, scale=1.0, offset=0.0)

    def occurrences(self) -> Occurrences:
        return Occurrences(
            np.array([rotation.weight for rotation in self.found], np.intp),
            np.array([rotation.scale for rotation in self.found]),
            np.array([rotation.offset for rotation in self.found]),
        )
