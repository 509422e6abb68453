"""Queries about cut angles: how they are answered, which ones tell most, and how alike they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...evaluation.service import Service
from ...model.training import one_hot

_WIDTHS = (0.5, 1.0, 2.0)  # of Gaussian kernels, by the root mean square distance of queries
_SHARES = (1.0, 3.0)  # of kernels of products: how much an interaction counts beside a constant
_LEAST = 1e-12


@dataclass(frozen=True)
class Channel:
    """How the service answers.

    Attributes:
        name: for people.
        shots: of every circuit; ``None`` is exact.
        labels: only the likeliest class.
        decimals: to which probabilities are rounded.
    """

    name: str
    shots: int | None = None
    labels: bool = False
    decimals: int | None = None

    def __call__(self, victim: Service, encoded: np.ndarray, use: str) -> np.ndarray:
        """Log-odds ``[K, rows, C]`` of the answers to ``encoded`` ``[K, rows, n_qubits]``; of labels ±1 in place of them."""
        answers = victim.model.with_shots(self.shots).answers(victim.trained, encoded, victim.keys(use))
        if self.labels:
            return 2 * one_hot(answers.argmax(axis=-1), victim.n_classes) - 1
        least = _LEAST
        if self.decimals is not None:
            answers, least = answers.round(self.decimals), 0.5 * 10.0**-self.decimals
        return np.log(np.clip(answers, least, 1 - least))


@dataclass(frozen=True, eq=False)
class Asked:
    """Questions and what came back.

    Attributes:
        raw: ``[K, n, f]``.
        encoded: as the service encodes them, ``[K, n, n_qubits]``; a holder looks at its own qubits.
        log_odds: ``[K, n, C]``.
        noise: relative variances ``[K, n]``.
        blocks: numbers ``[n]`` of sets of queries in each of which the other side's input is held constant; ``None`` where it is not.
    """

    raw: np.ndarray
    encoded: np.ndarray
    log_odds: np.ndarray
    noise: np.ndarray
    blocks: np.ndarray | None = None


def fit_affine(rows: np.ndarray, angles: np.ndarray, span: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Slopes ``[f, q]`` and offsets ``[q]`` of encoded ``angles`` ``[n, q]`` over raw ``rows`` ``[n, f]``: the shortest of the exact maps.

    An encoding is affine but for its clipping to ``span``, so that one row inside more than there are features gives it exactly.
    """
    slopes, offsets = np.zeros((rows.shape[1], angles.shape[1])), np.zeros(angles.shape[1])
    for qubit, column in enumerate(angles.T):
        inside = (column > span[0]) & (column < span[1])
        inside = inside if inside.sum() > 1 else np.ones(len(rows), bool)
        centre, mean = rows[inside].mean(axis=0), column[inside].mean()
        slopes[:, qubit] = np.linalg.lstsq(rows[inside] - centre, column[inside] - mean, rcond=1e-6)[0]
        offsets[qubit] = mean - centre @ slopes[:, qubit]
    return slopes, offsets


def similarities(targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Kernels ``[kernels, K, targets, rows]`` of features ``[K, ·, f]``, each in units of its standard deviation.

    Gaussians, and the products Π (1 + c·x·x')/(1 + c) over features, which hold every product of features that a parity may need.
    """
    spread = rows.std(axis=1, keepdims=True)
    spread = np.where(spread > 1e-6 * np.abs(rows).max(), spread, np.inf)
    left, right = targets / spread, rows / spread
    squares = np.sum((left[:, :, None] - right[:, None]) ** 2, axis=-1)
    scale = 2 * rows.shape[-1]
    products = left[:, :, None] * right[:, None]
    found = [np.exp(-squares / (scale * width**2)) for width in _WIDTHS]
    return np.stack(found + [np.prod((1 + share * products) / (1 + share), axis=-1) for share in _SHARES])


def informative(regressors: np.ndarray, count: int, rounds: int = 60) -> np.ndarray:
    """Numbers of ``count`` rows of ``regressors`` ``[pool, J]``, some more than once: a D-optimal design, found by multiplicative updates.

    Source: Titterington, "Algorithms for computing D-optimal designs on a finite design space" (1976).
    """
    left, sizes, _ = np.linalg.svd(regressors, full_matrices=False)
    left = left[:, sizes > 1e-4 * sizes[0]]
    weights = np.full(len(left), 1 / len(left))
    for _ in range(rounds):
        information = np.linalg.inv(left.T @ (left * weights[:, None]))
        weights = weights * np.einsum("ij,jk,ik->i", left, information, left) / left.shape[1]
    shares = count * weights / weights.sum()
    counts = np.floor(shares).astype(int)
    counts[np.argsort(counts - shares)[: count - counts.sum()]] += 1
    return np.repeat(np.arange(len(left)), counts)


def opposite_pairs(signs: np.ndarray, pairs: int) -> np.ndarray:
    """Numbers ``[2, pairs]`` of queries below and above 0; any, where all are on one side."""
    below, above = (np.flatnonzero(side) for side in (signs < 0, signs > 0))
    if not len(below) or not len(above):
        below = above = np.arange(len(signs))
    numbers = np.arange(pairs)
    return np.stack([below[numbers % len(below)], above[(numbers + numbers // len(above)) % len(above)]])
