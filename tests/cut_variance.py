"""How far estimates of a cut design from shots spread, in closed form: what the shots of ``CutEngine`` are held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qumos_env.design.gate_cuts import coefficients, cut_angles
from qumos_env.model.cutting.contraction import contract
from qumos_env.model.cutting.estimator import CutEngine


def predicted_variance(engine: CutEngine, angles: np.ndarray, results: Sequence[np.ndarray], shots: int) -> np.ndarray:
    """Variance ``[M, rows, n_qubits]`` of the product-of-means estimate from ``shots`` repetitions of every variant.

    Exact, with E[x̄_l·x̄_l'] = x_l·x_l' + δ_ll'·(1 − x_l²)/shots for the mean outcomes ±1 of a part's variants l and l', in the
    square of the sum over terms; different parts are independent. The second moment is a sum of the same form as the mean, with pairs
    of labels in the place of labels.

    Args:
        engine: of the design.
        angles: ``[M, n_trainable]``.
        results: expectation values, of ``engine.run`` without shots.
        shots: repetitions of every variant.
    """
    cuts = [part.cuts for part in engine.parts]
    matrices = [_pair_coefficients(coefficients(angles[:, number])) for number in cut_angles(engine.design)]
    mean = engine.reconstruct(angles, results)
    variances = np.zeros_like(mean)
    signs = [_moments(result[..., 0], shots) for result in results]
    for part in engine.parts:
        tables = list(signs)
        for output, qubit in enumerate(part.qubits, 1):
            tables[part.index] = _moments(results[part.index][..., output], shots)
            variances[..., qubit] = contract(cuts, tables, matrices) - mean[..., qubit] ** 2
    return np.maximum(variances, 0.0)


def _pair_coefficients(matrix: np.ndarray) -> np.ndarray:
    """``[M, L², L²]`` of a second moment, from those of the mean ``[M, L, L]``."""
    models, rows, columns = matrix.shape
    return np.einsum("mab,mcd->macbd", matrix, matrix).reshape(models, rows**2, columns**2)


def _moments(means: np.ndarray, shots: int) -> np.ndarray:
    """E[x_l·x_l'] as a table ``[M, rows, L²...]``, from the means ``[M, rows, L...]``, one axis of L labels per cut."""
    models, rows, *labels = means.shape
    flat = means.reshape(models, rows, -1)
    spread = (1 - flat**2) / shots
    moments = flat[..., :, None] * flat[..., None, :] + spread[..., :, None] * np.eye(flat.shape[-1])
    moments = moments.reshape(models, rows, *labels, *labels)
    order = [0, 1, *(axis for cut in range(len(labels)) for axis in (2 + cut, 2 + len(labels) + cut))]
    return moments.transpose(order).reshape(models, rows, *(size**2 for size in labels))
