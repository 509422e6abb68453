"""Sums over the terms of cuts, as tensor contractions.

A cut joins two tables of local results by a matrix of coefficients.
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


def recombined(
    qubits: Sequence[Sequence[int]], cuts: Sequence[Sequence[int]], results: Sequence[np.ndarray], matrices: Sequence[np.ndarray]
) -> np.ndarray:
    """⟨Z⟩ ``[M, rows, n_qubits]`` of the whole register, put together from its parts.

    Args:
        qubits, cuts: of every part its qubits, and the numbers of the cuts that touch it.
        results: of every part, of the form that ``CutEngine`` describes.
        matrices: of every cut its coefficients ``[M, 5, 5]``.
    """
    values = np.zeros((*results[0].shape[:2], sum(map(len, qubits))))
    for part, mine in enumerate(qubits):
        tables = [result[..., 1:] if other == part else result[..., 0] for other, result in enumerate(results)]
        values[..., list(mine)] = contract(cuts, tables, matrices)
    return values
