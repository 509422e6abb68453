"""Bayesian average over single products of features: whichever product explains the goal, or the loot, carries the scores.

Every set of features is one hypothesis: that a contrast between the classes is ± the product of these features, or of their signs. The
evidence of n rows for a product is −(n/2)·log(1 − ρ²), ρ its correlation with the contrast of the goal there: the marginal likelihood, up
to a constant, of a Gaussian model whose scale is not known. Few rows tell a parity of some features from all others, as each row halves
the number of those that fit. Who holds loot has further evidence from rows *without* a goal: what the stolen part computes is correlated
with the products that it was trained to compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from ..scaling import standardised
from .families import components

_MOST_FEATURES, _MOST_PRODUCTS = 8, 1023
_LEAST = 1e-9
_LARGEST_CORRELATION = 0.999
LOOT_SHARES = (0.03, 0.1)
"""Of the rows without a goal: what one of them counts beside one that has a goal."""


@dataclass(frozen=True, eq=False)
class Products:
    """Products of features of K draws.

    Attributes:
        values: by form (``signs``, ``values``), each of mean square 1: ``[K, rows, products]``.
        sizes: how many features are in each product, ``[products]``.
    """

    values: dict[str, np.ndarray]
    sizes: np.ndarray

    @classmethod
    def of(cls, draws: Sequence[np.ndarray]) -> Products:
        """Of raw rows ``[rows, f]`` of every draw; of more than eight features the leading principal components."""
        plain = np.stack([standardised(rows) if rows.shape[1] <= _MOST_FEATURES else components(rows) for rows in draws])
        width = plain.shape[-1]
        sets: list[tuple[int, ...]] = []
        for size in range(1, width + 1):
            more = list(combinations(range(width), size))
            if len(sets) + len(more) > _MOST_PRODUCTS:
                break
            sets += more
        values = {}
        for form, features in (("signs", np.sign(plain)), ("values", np.clip(plain, -2, 2))):
            products = np.stack([features[..., list(chosen)].prod(axis=-1) for chosen in sets], axis=-1)
            values[form] = products / np.sqrt(np.maximum(np.mean(products**2, axis=1, keepdims=True), _LEAST))
        return cls(values, np.array([len(chosen) for chosen in sets]))

    def evidence(self, form: str, goal: np.ndarray, *, centred: bool = False) -> np.ndarray:
        """What ``goal`` ``[K, n, classes]`` of the first n rows says for every product of a form: ``[contrasts, 2, K, products]``.

        The second axis is the sign of the product. ``centred``: the level of the goal says nothing.
        """
        products = self.values[form][:, : goal.shape[1]]
        whole = products.shape == self.values[form].shape
        squares = self._squares[form] if whole else np.sum(products**2, axis=1)
        return np.stack([_evidence(goal @ contrast, products, squares, centred) for contrast in contrasts(goal.shape[-1])])

    @cached_property
    def _squares(self) -> dict[str, np.ndarray]:
        """Sums over all rows of the squares of every product, ``[K, products]``, by form."""
        return {form: np.sum(products**2, axis=1) for form, products in self.values.items()}

    def scores(self, form: str, evidence: np.ndarray) -> np.ndarray:
        """Scores ``[K, rows, classes]`` from the ``evidence`` ``[contrasts, 2, K, products]``, which may be a sum of several."""
        products = self.values[form]
        known = _contrasts_of(len(evidence))
        total = np.zeros((*products.shape[:2], known.shape[1]))
        for contrast, found in zip(known, evidence, strict=True):
            logarithms = found - np.log(2.0) * self.sizes
            weights = np.exp(logarithms - logarithms.max(axis=(0, 2), keepdims=True))
            weights /= weights.sum(axis=(0, 2), keepdims=True)
            told = (products @ (weights[0] - weights[1])[..., None])[..., 0]
            total += told[..., None] * contrast
        return total


def contrasts(classes: int) -> list[np.ndarray]:
    """Contrasts between the classes, each ``[classes]`` of ±1: what two bits and their product say of four, else one against the others."""
    if classes == 2:
        return [np.array([1.0, -1.0])]
    if classes == 4:
        return [np.array(signs, float) for signs in ((1, 1, -1, -1), (1, -1, 1, -1), (1, -1, -1, 1))]
    return [2 * np.eye(classes)[label] - 1 for label in range(classes)]


def _contrasts_of(count: int) -> np.ndarray:
    """The contrasts of as many classes as have ``count`` of them, ``[contrasts, classes]``."""
    return np.stack(contrasts({1: 2}.get(count, 4 if count == 3 else count)))


def _evidence(contrast: np.ndarray, products: np.ndarray, squares: np.ndarray, centred: bool) -> np.ndarray:
    """Evidence ``[2, K, products]`` of every product for ``contrast`` ``[K, rows]``, with the same sign and with the other.

    ``squares`` are the sums of the products' squares over the rows, ``[K, products]``.
    """
    if centred:
        contrast = contrast - contrast.mean(axis=1, keepdims=True)
    sizes = np.linalg.norm(contrast, axis=1)[:, None] * np.sqrt(squares)
    correlation = (contrast[:, None] @ products)[:, 0] / np.maximum(sizes, _LEAST)
    signed = np.clip(np.stack([correlation, -correlation]), 0.0, _LARGEST_CORRELATION)
    return np.asarray(-0.5 * contrast.shape[1] * np.log(1 - signed**2))
