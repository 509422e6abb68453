"""Sums over the terms of cuts, as tensor contractions.

A cut joins two tables of local results by a matrix of coefficients. The second moment of the same sum has the same form, with
pairs of labels in the place of labels, which gives the exact variance of an estimate from independent runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Letters of an einsum: model, row, outputs, then two for every cut.
_MODEL, _ROW, _OUTPUT, _FIRST = 0, 1, 2, 3


def contract(cuts: Sequence[Sequence[int]], tables: Sequence[np.ndarray], coefficients: Sequence[np.ndarray]) -> np.ndarray:
    """Σ over the labels (a, b) of every cut of Π coefficient[a, b] · Π tables.

    Args:
        cuts: for every table the numbers of the cuts that its label axes belong to; every cut joins two tables.
        tables: ``[M, rows, labels of its cuts...]``; one of them may have a last axis of outputs.
        coefficients: of every cut, ``[M, labels, labels]``, rows for the first of its two tables.

    Returns:
        ``[M, rows]``, or ``[M, rows, outputs]``.
    """
    seen: set[int] = set()
    operands: list[object] = []
    result = [_MODEL, _ROW]
    for numbers, table in zip(cuts, tables, strict=True):
        letters = [_MODEL, _ROW]
        for number in numbers:
            letters.append(_FIRST + 2 * number + (number in seen))
            seen.add(number)
        if table.ndim > len(letters):
            letters.append(_OUTPUT)
            result = [_MODEL, _ROW, _OUTPUT]
        operands += [table, letters]
    for number, matrix in enumerate(coefficients):
        operands += [matrix, [_MODEL, _FIRST + 2 * number, _FIRST + 2 * number + 1]]
    contracted: np.ndarray = np.einsum(*operands, result, optimize="greedy")  # type: ignore[call-overload]
    return contracted


def pair_coefficients(coefficients: np.ndarray) -> np.ndarray:
    """The coefficients ``[M, L², L²]`` of a second moment, from those of the mean ``[M, L, L]``."""
    models, rows, columns = coefficients.shape
    pairs = np.einsum("mab,mcd->macbd", coefficients, coefficients)
    return pairs.reshape(models, rows**2, columns**2)


def pair_table(means: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """The second moments E[x_l·x_l'] as a table ``[M, rows, L²...]``.

    Args:
        means: of the local results, ``[M, rows, L...]``, one axis of L labels per cut.
        covariance: of their estimates, ``[M, rows, V, V]``, V the product of the label axes.
    """
    models, rows, *labels = means.shape
    flat = means.reshape(models, rows, -1)
    moments = flat[..., :, None] * flat[..., None, :] + covariance
    n_cuts = len(labels)
    moments = moments.reshape(models, rows, *labels, *labels)
    order = [0, 1, *(axis for cut in range(n_cuts) for axis in (2 + cut, 2 + n_cuts + cut))]
    return moments.transpose(order).reshape(models, rows, *(size**2 for size in labels))


def diagonal(variances: np.ndarray) -> np.ndarray:
    """The covariance ``[M, rows, V, V]`` of independent results with ``variances`` ``[M, rows, L...]``."""
    flat = variances.reshape(*variances.shape[:2], -1)
    return flat[..., :, None] * np.eye(flat.shape[-1])
