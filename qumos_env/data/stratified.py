"""Stratified, deterministic drawing of rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def allot(total: int, shares: np.ndarray) -> np.ndarray:
    """``total`` places given to classes in proportion to ``shares``, by largest remainders.

    Integer arithmetic throughout; of equal remainders the earlier class wins, so the result never depends on the machine.

    Args:
        total: how many places, 0 or more.
        shares: rows of every class, int ``[C]``, with a positive sum. They are weights, not limits.

    Returns:
        Places of every class, int64 ``[C]``, summing to ``total``, each within one of its exact share.
    """
    places, remainders = np.divmod(total * shares.astype(np.int64), shares.sum())
    places[np.argsort(-remainders, kind="stable")[: total - places.sum()]] += 1
    return places


def rows_by_class(rows: np.ndarray, labels: np.ndarray, classes: int) -> list[np.ndarray]:
    """The row indices ``rows``, one array per class; ``labels`` are those of the whole data set."""
    return [rows[labels[rows] == label] for label in range(classes)]


def deal(pools: Sequence[np.ndarray], quotas: Sequence[np.ndarray], generator: np.random.Generator) -> list[np.ndarray]:
    """Deals every class's rows at random to the roles.

    Args:
        pools: row indices of every class.
        quotas: for every role the rows it gets of each class, int ``[C]``.
        generator: source of the order.

    Returns:
        Sorted row indices of every role, then those that nobody got.
    """
    hands = []
    for label, pool in enumerate(pools):
        ends = np.cumsum([quota[label] for quota in quotas])
        hands.append(np.split(generator.permutation(pool), ends))
    return [np.sort(np.concatenate(role)) for role in zip(*hands, strict=True)]
