"""What the holder of some parts reads from its variants, sorted by what the angles of the cuts do to it.

With D = (S − S†)/2, RZZ(θ) = cos²(θ/2)·I⊗I + sin²(θ/2)·Z⊗Z + sin θ·(D⊗M + M⊗D) as maps (see ``design.gate_cuts``): cos²(θ/2),
sin²(θ/2) and sin θ are the *factors* of a cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from .estimator import CutEngine

# The labels I, Z, D, M of a side in terms of ``LABELS``.
_BASIS = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0.5, -0.5, 0], [0, 0, 0, 0, 1]])
_I, _Z, _D, _M = range(4)
# Number of a factor and the labels of the sides that it multiplies; of one side alone, every label by itself.
_JOINED = ((0, _I, _I), (1, _Z, _Z), (2, _D, _M), (2, _M, _D))
_APART = tuple((label, label) for label in (_I, _Z, _D, _M))


@dataclass(frozen=True, eq=False)
class Readings:
    """What the holder of some parts reads for queries whose encoding it knows.

    Attributes:
        cuts: numbers of the cuts that touch its parts.
        sides: of each of them, how many sides it holds, 1 or 2.
        qubits: that it holds.
        known: ``[M, rows, Q, K]``, ⟨Z⟩ of its qubits by factors: K is 3 for a cut of which it holds both sides, 2 for others, multiplied.
        loose: ``[M, rows, Q, J]``, what unknown signs of the other side multiply in ⟨Z⟩ of its qubits.
        grouped: ``[M, rows, Q, G, K]``, the same by factors, where the other side's sign of one cut does not depend on what stands in the
            place of another: G unknown signs, one per set of cuts.
        signs: ``[M, rows, L]``, what unknown values multiply in ⟨Z⟩ of qubits that it does not hold: 1, and its own signs of M.
    """

    cuts: tuple[int, ...]
    sides: tuple[int, ...]
    qubits: tuple[int, ...]
    known: np.ndarray
    loose: np.ndarray
    grouped: np.ndarray
    signs: np.ndarray

    def factors(self, angles: np.ndarray) -> np.ndarray:
        """The weights ``[..., K]`` of ``known`` for ``angles`` ``[..., cuts]``."""
        found = np.ones((*angles.shape[:-1], 1))
        for place, sides in enumerate(self.sides):
            angle = angles[..., place]
            each = np.stack([np.cos(angle / 2) ** 2, np.sin(angle / 2) ** 2, np.sin(angle)][: 1 + sides], axis=-1)
            found = (found[..., :, None] * each[..., None, :]).reshape(*angle.shape, -1)
        return found


def read_variants(engine: CutEngine, held: Sequence[int], angles: np.ndarray, inputs: np.ndarray) -> Readings:
    """What the holder of the parts ``held`` reads; no cut angle, and no angle or input of another part, is looked at.

    Args:
        engine: of the design.
        held: numbers of the parts.
        angles: float ``[M, n_trainable]``.
        inputs: encoded angles ``[M, rows, n_qubits]``.
    """
    parts = [engine.parts[part] for part in held]
    touched = [cut for part in parts for cut in part.cuts]
    cuts = tuple(sorted(set(touched)))
    sides = tuple(touched.count(cut) for cut in cuts)
    ends = [_JOINED if side == 2 else _APART for side in sides]
    every = list(product(*(range(max(end)[0] + 1) for end in ends)))
    places = {label: place for place, label in enumerate(every)}
    tables = [_by_basis(engine.run_part(part.index, angles, inputs), len(part.cuts)) for part in parts]
    values = np.zeros((*inputs.shape[:2], 1 + sum(len(part.qubits) for part in parts), len(every)))
    for chosen in product(*ends):
        # Of every cut the labels of its held sides, in the order of the parts.
        left = {cut: list(stands) for cut, (_, *stands) in zip(cuts, chosen, strict=True)}
        read = []
        for part, table in zip(parts, tables, strict=True):
            index: tuple[Any, ...] = (..., *(left[cut].pop(0) for cut in part.cuts), slice(None))
            read.append(table[index])
        values[..., places[tuple(one[0] for one in chosen)]] += _product(read)
    labels = np.array(every, int).reshape(len(every), len(cuts))
    other = np.array(sides) == 1
    loose, signed = ((labels == label)[:, other].any(axis=1) for label in (_D, _M))
    qubits = tuple(qubit for part in parts for qubit in part.qubits)
    signs, values = values[:, :, 0, signed], values[:, :, 1:]
    if len(qubits) < engine.design.n_qubits:
        signs = np.concatenate([np.ones((*signs.shape[:2], 1)), signs], axis=-1)
    known = ~loose & ~signed
    groups = [np.array(chosen, bool) for chosen in product((False, True), repeat=int(other.sum()))][1:]
    grouped = np.zeros((*values.shape[:3], len(groups), int(known.sum())))
    for number, group in enumerate(groups):
        turned = labels[known]
        turned[:, np.flatnonzero(other)[group]] = _D
        grouped[..., number, :] = values[..., [places[tuple(label)] for label in turned.tolist()]]
    return Readings(cuts, sides, qubits, values[..., known], values[..., loose], grouped, signs)


def _by_basis(table: np.ndarray, n_cuts: int) -> np.ndarray:
    """Results ``[M, rows, 5, ..., 5, ·]`` of a part by the labels I, Z, D, M."""
    for axis in range(2, 2 + n_cuts):
        table = np.moveaxis(np.tensordot(_BASIS, table, axes=(1, axis)), 0, axis)
    return table


def _product(read: Sequence[np.ndarray]) -> np.ndarray:
    """The product of the parts' signs, then that product times Z of every qubit, ``[M, rows, 1 + qubits]``, from ``[M, rows, 1 + own]``."""
    signs = [one[..., :1] for one in read]
    found = [np.prod(signs, axis=0)]
    for number, one in enumerate(read):
        found.append(np.prod([np.ones_like(signs[0]), *signs[:number], *signs[number + 1 :]], axis=0) * one[..., 1:])
    return np.concatenate(found, axis=-1)


def canonical(angles: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """``angles`` ``[..., cuts]`` in (−π, π], without their sign where one side is held: what can be told of them."""
    wrapped = np.pi - np.mod(np.pi - angles, 2 * np.pi)
    return np.where(np.array(sides) == 2, wrapped, np.abs(wrapped))
