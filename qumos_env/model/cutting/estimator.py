"""⟨Z⟩ of a design with gate cuts, from runs of its parts.

The estimator is the *product of means*: every variant of every part is run with the same fixed number of shots, every term of a cut
takes the product of the mean results of the two sides, and the owner adds the terms up with its secret coefficients. It is unbiased,
since the two sides are different runs, and a mean serves all terms it occurs in. For ⟨Z⟩ of a qubit the other sides contribute
the mean of the signs of M alone, which is exactly 1 where a variant has no M, so many terms cancel without any noise.

The textbook alternative, *quasi-probability sampling*, runs one pair of circuits per shot; ``docs/hardware.md`` compares their variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from ...design import Design
from ...design.gate_cuts import LABELS, coefficients, cut_angles, cut_parts
from ...errors import QumosError
from ...simulation.dense import DenseTape
from ...simulation.sampling import sampled_counts
from ..stack import FragmentEngine
from .contraction import recombined

# Amplitudes that a label gives to the branches of a qubit in |0⟩ and in |1⟩; M keeps the branches apart.
_FACTORS = {"I": (1, 1), "Z": (1, -1), "S": (1, 1j), "Sdg": (1, -1j)}
# The branches from the states behind RZ(0) and RZ(π): the latter is -iZ.
_TO_BRANCHES = np.array([[1, 1j], [1, -1j]], np.complex64) / 2


class CutEngine:
    """Runs the parts of a design with gate cuts, and puts their results together; many models at once.

    Args:
        design: the design.
        axis: rotation axis of the angle encoding.

    Everywhere ``angles`` are float ``[M, n_trainable]``, ``inputs`` the encoded angles of the register ``[M, rows, n_qubits]``, and
    ``results`` hold for every part ``[M, rows, 5, ..., 5, 1 + qubits of the part]``: one axis of ``LABELS`` per cut of the part; the
    mean sign of the M of the variant, then that sign times Z of every qubit.

    Raises:
        QumosError: too many cuts, or an unknown axis.
    """

    def __init__(self, design: Design, axis: str) -> None:
        self.design = design
        self.parts = cut_parts(design, axis)
        self._engines = [FragmentEngine(part.fragment) for part in self.parts]
        self._numbers = list(cut_angles(design))
        self._qubits = [part.qubits for part in self.parts]
        self._cuts = [part.cuts for part in self.parts]

    def run(
        self, angles: np.ndarray, inputs: np.ndarray, shots: int | None = None, generator: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ...]:
        """The results of every part; cut angles are not looked at.

        Args:
            angles, inputs: see the class.
            shots: repetitions of every variant, the same for all, or ``None`` for expectation values.
            generator: source of the outcomes, needed with ``shots``.

        Raises:
            QumosError: shots without a generator, or fewer than 1.
        """
        return tuple(self.run_part(part.index, angles, inputs, shots, generator) for part in self.parts)

    def run_part(
        self,
        part: int,
        angles: np.ndarray,
        inputs: np.ndarray,
        shots: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> np.ndarray:
        """As ``run``, of one part."""
        if shots is not None and generator is None:
            raise QumosError("shots: a generator of their outcomes is needed too")
        chosen = self.parts[part]
        branches = self._branches(part, angles, inputs)
        found = []
        for labels in product(LABELS, repeat=len(chosen.cuts)):
            probabilities = _outcome_probabilities(branches, labels)
            signs = _signs(labels.count("M"), len(chosen.qubits))
            if shots is not None and generator is not None:
                counts = sampled_counts(probabilities.reshape(-1, len(signs)), shots, generator)
                probabilities = (counts / shots).reshape(probabilities.shape)
            found.append(probabilities @ signs)
        shape = (len(LABELS),) * len(chosen.cuts)
        return np.stack(found, axis=2).reshape(*inputs.shape[:2], *shape, 1 + len(chosen.qubits))

    def _branches(self, part: int, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """The final states ``[M, rows, 2, ..., 2, 2**n]`` behind the projection of every cut qubit on |0⟩ and on |1⟩.

        All variants are combinations of these, so 2**c runs serve 5**c variants.
        """
        chosen, engine = self.parts[part], self._engines[part]
        settings = np.array(list(product((0.0, np.pi), repeat=len(chosen.cuts))))
        turned = np.repeat(angles, len(settings), axis=0)
        turned[:, list(chosen.angles)] = np.tile(settings, (len(angles), 1))
        _, tape = engine.forward(turned, engine.encode(np.repeat(inputs, len(settings), axis=0)))
        final = tape.final if isinstance(tape, DenseTape) else np.stack([one.states for one in tape])
        states = final.reshape(len(angles), *(2 for _ in chosen.cuts), *final.shape[1:])
        for axis in range(1, 1 + len(chosen.cuts)):
            states = np.moveaxis(np.tensordot(_TO_BRANCHES, states, axes=(1, axis)), 0, axis)
        return np.moveaxis(states, -1, 1)

    def reconstruct(self, angles: np.ndarray, results: Sequence[np.ndarray]) -> np.ndarray:
        """⟨Z⟩ ``[M, rows, n_qubits]`` from the ``results`` of all parts; only the cut angles among ``angles`` are used."""
        return recombined(self._qubits, self._cuts, results, [coefficients(angles[:, number]) for number in self._numbers])

    def variant_readout(self, parts: Sequence[int], angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """What the holder of ``parts`` reads from the circuits it holds, float ``[M, rows, F]``.

        Per part, in the order of its variants, sign·⟨Z⟩ of every qubit, and behind these the mean sign of every variant with an M. No cut
        angle enters: the owner does not give it away. Angles and inputs of other parts do not matter.
        """
        found = []
        for part in parts:
            labels = list(product(LABELS, repeat=len(self.parts[part].cuts)))
            result = self.run_part(part, angles, inputs).reshape(*inputs.shape[:2], len(labels), -1)
            signed = ["M" in chosen for chosen in labels]
            found += [result[..., 1:].reshape(*inputs.shape[:2], -1), result[:, :, signed, 0]]
        return np.concatenate(found, axis=-1)


def _outcome_probabilities(branches: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Probabilities ``[M, rows, 2**(number of M) * 2**n]`` of the signs of M and of the outcomes at the end."""
    for axis, label in reversed(list(enumerate(labels, 2))):
        if label != "M":
            branches = np.tensordot(branches, np.array(_FACTORS[label], np.complex64), axes=(axis, 0))
    amplitudes = branches.reshape(*branches.shape[:2], -1)
    probabilities = (amplitudes.real**2 + amplitudes.imag**2).astype(float)
    return probabilities / probabilities.sum(axis=-1, keepdims=True)


def _signs(n_measured: int, n_qubits: int) -> np.ndarray:
    """``[2**(n_measured + n_qubits), 1 + n_qubits]``: per outcome the product of the signs of M, alone and times Z of every qubit."""
    width = n_measured + n_qubits
    bits = (np.arange(2**width)[:, None] >> np.arange(width - 1, -1, -1)) & 1
    z = 1.0 - 2.0 * bits
    return np.prod(z[:, :n_measured], axis=1, keepdims=True) * np.hstack([np.ones((2**width, 1)), z[:, n_measured:]])
