"""How a design's circuits are measured: exact or with the noise of hardware, expectation values or shots, with cuts put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from ..design import Design
from ..design.circuits import joint_fragments
from ..simulation.channels import NoiseSpec
from .cutting.estimator import CutEngine
from .noisy import NoisyStack
from .stack import CircuitStack


class MeasuredCircuits:
    """The circuits of a design as its providers run them; the one way in which a service comes by ⟨Z⟩.

    Args:
        design: the design; its own number of shots plays no part.
        axis: rotation axis of the encoding.
        noise: provider -> noise of its hardware; a provider that is not named has none.

    Attributes:
        exact: the circuits without noise, cuts uncut: what the owner trains.
    """

    def __init__(self, design: Design, axis: str, noise: Mapping[str, NoiseSpec] | None = None) -> None:
        self.design, self.axis, self.noise = design, axis, dict(noise or {})
        self.exact = CircuitStack(joint_fragments(design, axis), design.n_qubits)

    @cached_property
    def noisy(self) -> NoisyStack:
        """The circuits with the noise of their hardware, cuts uncut."""
        rates = [self.noise.get(self.design.assignment[part], NoiseSpec()) for part in self.design.partition]
        return NoisyStack(joint_fragments(self.design, self.axis), rates, self.design.partition)

    @cached_property
    def _cut(self) -> CutEngine:
        return CutEngine(self.design, self.axis)

    def readout(
        self, angles: np.ndarray, inputs: np.ndarray, shots: int | None = None, keys: Sequence[Sequence[int]] = ()
    ) -> np.ndarray:
        """⟨Z⟩ float ``[M, rows, n_qubits]`` for ``angles`` ``[M, n_trainable]`` and ``inputs`` ``[M, rows, n_qubits]``.

        With shots, every variant of every part of a design with gate cuts is run that often, and ⟨Z⟩ is the product-of-means estimate from
        their results (see ``cutting.estimator``), which may leave [-1, 1]. Its variance is more than the uncut circuit's from as many runs
        in all, often less than from as many shots. With noise too it is the uncut circuit that is sampled, each cut gate with the noise of
        one-qubit gates, so the variance of those answers is that of the uncut circuit.

        ``keys`` seed the shots of each of the M models.

        Raises:
            QumosError: shots and more gate cuts than can be recombined.
        """
        stack = self.noisy if self.noise else self.exact
        if shots is None:
            return stack.readout(angles, inputs)
        if self.design.cut_gates and not self.noise:
            return self._recombined(angles, inputs, shots, keys)
        return stack.sampled_readout(angles, inputs, shots, keys)

    def _recombined(self, angles: np.ndarray, inputs: np.ndarray, shots: int, keys: Sequence[Sequence[int]]) -> np.ndarray:
        """Each model's ⟨Z⟩ from its own generator, so that it does not depend on the models beside it."""
        values = []
        for model, key in enumerate(keys):
            one = slice(model, model + 1)
            results = self._cut.run(angles[one], inputs[one], shots, np.random.default_rng(key))
            values.append(self._cut.reconstruct(angles[one], results)[0])
        return np.stack(values)
