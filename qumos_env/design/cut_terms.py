"""The terms of a cut RZZ and what the owner weighs them by, apart from the circuits (``gate_cuts``): who combines results needs no Cirq."""

from __future__ import annotations

import numpy as np

from .design import Design

LABELS = ("I", "Z", "S", "Sdg", "M")
"""What stands on each side in the place of a cut gate; ``Sdg`` is S†."""
MAX_GATE_CUTS = 3
"""A part that c cuts touch runs 5**c circuits."""


def coefficients(angles: np.ndarray) -> np.ndarray:
    """Of RZZ by ``angles`` ``[...]`` in radians: ``[..., 5, 5]``, the labels of one side by those of the other. The owner's secret."""
    angles = np.asarray(angles, float)
    table = np.zeros((*angles.shape, len(LABELS), len(LABELS)))
    place = {label: number for number, label in enumerate(LABELS)}
    table[..., place["I"], place["I"]] = np.cos(angles / 2) ** 2
    table[..., place["Z"], place["Z"]] = np.sin(angles / 2) ** 2
    for label, sign in (("S", 0.5), ("Sdg", -0.5)):
        table[..., place["M"], place[label]] = table[..., place[label], place["M"]] = sign * np.sin(angles)
    return table


def cuts_of_parts(design: Design) -> tuple[tuple[int, ...], ...]:
    """For every part of ``design`` the numbers, in ``design.cut_gates``, of the cuts that touch it."""
    homes = [{design.partition[qubit] for qubit in placed.gate.qubits} for placed in design.cut_gates]
    return tuple(tuple(cut for cut, ends in enumerate(homes) if part.index in ends) for part in design.parts)


def variant_counts(design: Design) -> tuple[int, ...]:
    """For every part of ``design`` how many circuits its provider runs for one query."""
    return tuple(len(LABELS) ** len(cuts) for cuts in cuts_of_parts(design))
