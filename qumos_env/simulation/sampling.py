"""Expectation values from a finite number of shots: seeded multinomial sampling of exact outcome probabilities."""

from __future__ import annotations

import numpy as np


def sampled_z(probabilities: np.ndarray, shots: int, generator: np.random.Generator) -> np.ndarray:
    """⟨Z⟩ of every qubit, estimated from ``shots`` measurements per row.

    Args:
        probabilities: of the outcomes, ``[rows, 2**n]``, most significant qubit first; rows are normalised here, since single
            precision leaves their sums a little off 1.
        shots: measurements per row; one set of shots serves all qubits, as on hardware.
        generator: source of the outcomes.

    Returns:
        float64 ``[rows, n]``.
    """
    exact = np.maximum(probabilities.astype(np.float64), 0.0)
    counts = generator.multinomial(shots, exact / exact.sum(axis=1, keepdims=True))
    n_qubits = probabilities.shape[1].bit_length() - 1
    bits = (np.arange(2**n_qubits)[:, None] >> np.arange(n_qubits - 1, -1, -1)) & 1
    return counts @ (1 - 2 * bits) / shots
