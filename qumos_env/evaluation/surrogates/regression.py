"""Kernel ridge regressions of many draws at once, with their leave-one-out errors in closed form.

What was stolen enters in two ways. *Readouts* are features more: their inner products are added to the kernel. The *sums* of readouts that
a known head makes of each class are the part of the logits that is known but for its scale s, so that the regression has only the rest to
explain,

    f(x) = s·sums(x) + k(x)·(K + λ)⁻¹(goal − s·sums).

The ridge λ, and with readouts their weight, are chosen within the few rows by the squared leave-one-out error. It has the closed form
[(K + λ)⁻¹y]ᵢ/[(K + λ)⁻¹]ᵢᵢ (Rasmussen and Williams, 2006, section 5.4.2); being linear in y, it gives the best s in closed form too. Which
kernel is best is for the tuning rows to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

RIDGES = 10.0 ** np.arange(-3, 1.1)
"""In units of the kernel's mean diagonal."""
_WEIGHTS = (0.5, 2.0, 8.0)
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Kernels:
    """Candidate kernels for K draws: ``values``, or with ``products`` these with the products added in every weight.

    Attributes:
        values: ``[K, candidates, rows, own]``, between all rows and the few that have a goal, which come first.
        products: of features more, ``[K, rows, own]``, see ``inner_products``.
    """

    values: np.ndarray
    products: np.ndarray | None = None

    @property
    def own(self) -> int:
        """How many rows have a goal."""
        return int(self.values.shape[-1])

    @cached_property
    def _between_own(self) -> np.ndarray:
        """``[K, candidates, weights, own, own]``."""
        alone = self.values[:, :, None, : self.own]
        if self.products is None:
            return alone
        return alone + np.array(_WEIGHTS)[:, None, None] * self.products[:, None, None, : self.own]

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Mean of the diagonal over the own rows, ``[K, candidates, weights]``; it scales the ridge and the constant feature."""
        return np.maximum(np.einsum("kcwii->kcw", self._between_own) / self.own, _TINY)

    @cached_property
    def inverses(self) -> np.ndarray:
        """(K + λ)⁻¹ for every weight and ridge, ``[K, candidates, weights · ridges, own, own]``."""
        eigenvalues, vectors = np.linalg.eigh(self._between_own + self.diagonal[..., None, None])
        ridges = RIDGES[:, None] * self.diagonal[..., None, None]
        damped = 1 / (np.maximum(eigenvalues, 0)[..., None, :] + ridges)
        found = (vectors[..., None, :, :] * damped[..., None, :]) @ vectors[..., None, :, :].swapaxes(-1, -2)
        return found.reshape(*found.shape[:2], -1, self.own, self.own)

    @cached_property
    def variances(self) -> np.ndarray:
        """Diagonals of the inverses, ``[K, candidates, weights · ridges, own, 1]``."""
        return np.einsum("kcrii->kcri", self.inverses)[..., None]

    def regress(
        self, goal: np.ndarray, offset: np.ndarray | None = None, scale: float | None = None, ridge: float | None = None
    ) -> np.ndarray:
        """Scores ``[candidates, K, rows, classes]`` of the regressions on ``goal`` ``[K, own, classes]``; see the module.

        Args:
            goal: what to explain.
            offset: what is known of it but for its scale, ``[K, rows, classes]``.
            scale: of the offset; default the best by the leave-one-out error, at least 0.
            ridge: one of ``RIDGES``; default the best by the leave-one-out error.
        """
        own, variances = self.own, self.variances
        residuals = self.inverses @ goal[:, None, None] / variances
        scales = np.zeros(residuals.shape[:3])
        if offset is not None:
            # Scores of a row count up to a constant.
            offset = offset - offset.mean(axis=-1, keepdims=True)
            explained = self.inverses @ offset[:, None, None, :own] / variances
            if scale is None:
                inner, squared = (np.sum(explained * other, axis=(-2, -1)) for other in (residuals, explained))
                # An attacker knows the sign of what it stole.
                scales = np.maximum(0.0, inner / np.maximum(squared, _TINY))
            else:
                scales = np.full_like(scales, scale)
            residuals = residuals - scales[..., None, None] * explained
        errors = np.mean(residuals**2, axis=(-2, -1))
        if ridge is not None:
            errors = np.where(np.isclose(np.tile(RIDGES, errors.shape[2] // len(RIDGES)), ridge), errors, np.inf)
        best = errors.argmin(axis=2)
        chosen = np.take_along_axis(scales, best[..., None], axis=2)[..., None]
        rest = np.broadcast_to(goal[:, None], (*best.shape, *goal.shape[1:]))
        if offset is not None:
            rest = rest - chosen * offset[:, None, :own]
        inverses = np.take_along_axis(self.inverses, best[..., None, None, None], axis=2)[:, :, 0]
        weights = inverses @ rest
        weight = best // len(RIDGES)
        constant = np.take_along_axis(self.diagonal, weight[..., None], axis=2)[..., None]
        # In place: new arrays of this size cost more than what is computed.
        scores = self.values @ weights
        scores += constant * weights.sum(axis=-2, keepdims=True)
        if self.products is not None:
            scores += np.take(_WEIGHTS, weight)[..., None, None] * (self.products[:, None] @ weights)
        if offset is not None:
            scores += chosen * offset[:, None]
        return np.asarray(scores.swapaxes(0, 1))


def inner_products(features: np.ndarray, own: int) -> np.ndarray:
    """Of ``features`` ``[K, rows, F]``, centred and of mean squared norm 1, between all rows and the first ``own``: ``[K, rows, own]``."""
    centred = features - features.mean(axis=1, keepdims=True)
    norm = np.maximum(np.mean(np.sum(centred**2, axis=-1), axis=-1), _TINY)
    return np.asarray(centred @ centred[:, :own].swapaxes(-1, -2) / norm[:, None, None])
