"""Models that an adversary fits in closed form to a few rows, with loot or without: kernel ridge regressions.

Everyone who attacks has a few rows with a *goal* for each (labels, or the log-odds of the service's answers) and many rows without one,
the *targets*. A model is a kernel between all these rows and the few,

    kernel   ⟨x, x'⟩/2 + exp(−γ|x − x'|²/m)   on raw features, standardised or on one scale, m the median distance
    products Πᵢ (1 + c·xᵢx'ᵢ)/(1 + c)          on standardised features, normalised: holds every product of features that a parity may need
    graph    (1 − αS)⁻¹                       S the normalised adjacency of a graph of nearest neighbours among all rows, which spreads
                                              labels along clusters (Zhou et al., 2003)
    loot     0                                for those who hold loot and do not look at features

and a ridge. What was stolen enters in two ways. *Readouts* are features more: their inner products are added to the kernel. The *sums*
of readouts that a known head makes of each class are the part of the logits that is known but for its scale s, so that the ridge
regression has only the rest to explain,

    f(x) = s·sums(x) + k(x)·(K + λ)⁻¹(goal − s·sums).

All scales (γ, c, α, standardised or not, weight of the readouts, λ) are chosen within the few rows by the squared leave-one-out
error. It has the closed form [(K + λ)⁻¹y]ᵢ/[(K + λ)⁻¹]ᵢᵢ (Rasmussen and Williams, 2006, section 5.4.2); being linear in y, it gives the
best s in closed form too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from scipy.sparse import diags_array, eye_array
from scipy.sparse.linalg import cg, splu
from scipy.spatial.distance import cdist
from sklearn.neighbors import kneighbors_graph

from ..model.training import one_hot
from .scaling import of_unit_norm, standardised

RIDGES = 10.0 ** np.arange(-3, 1.1)
"""In units of the kernel's mean diagonal."""
_WIDTHS = (0.5, 1.0, 2.0, 4.0)
_SHARES = (0.3, 1.0, 3.0)
_NEIGHBOURS = 7
_SPREADS = (0.9, 0.99)
_MANY, _FACTORISED = 40, 10_000  # own rows beyond which, and rows up to which, the system of a graph is factorised
_WEIGHTS = (0.5, 2.0, 8.0)
_LEAST_PROBABILITY = 1e-4
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

    @cached_property
    def _between_own(self) -> np.ndarray:
        """``[K, candidates, own, own]``."""
        own = self.values.shape[-1]
        alone = self.values[:, :, :own]
        if self.products is None:
            return alone
        return np.concatenate([alone + weight * self.products[:, None, :own] for weight in _WEIGHTS], axis=1)

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Mean of the diagonal over the own rows, ``[K, candidates]``; it scales the ridge and the constant feature."""
        return np.maximum(np.einsum("kcii->kc", self._between_own) / self.values.shape[-1], _TINY)

    @cached_property
    def inverses(self) -> np.ndarray:
        """(K + λ)⁻¹ for every ridge, ``[K, candidates · ridges, own, own]``."""
        own = self.values.shape[-1]
        eigenvalues, vectors = np.linalg.eigh(self._between_own + self.diagonal[:, :, None, None])
        ridges = RIDGES[:, None] * self.diagonal[:, :, None, None]
        damped = 1 / (np.maximum(eigenvalues, 0)[:, :, None] + ridges)
        found = (vectors[:, :, None] * damped[:, :, :, None, :]) @ vectors[:, :, None].swapaxes(-1, -2)
        return found.reshape(len(found), -1, own, own)

    def chosen(self, candidates: np.ndarray) -> np.ndarray:
        """Of every draw the candidate numbered in ``candidates`` ``[K]``, between all rows and the own ones: ``[K, rows, own]``."""
        draws, alone = np.arange(len(self.values)), self.values.shape[1]
        values = self.values[draws, candidates % alone]
        return values if self.products is None else values + np.take(_WEIGHTS, candidates // alone)[:, None, None] * self.products

    def regress(self, goal: np.ndarray, offset: np.ndarray | None = None) -> np.ndarray:
        """Scores ``[K, rows, classes]`` of the regression on ``goal`` ``[K, own, classes]``; see the module.

        Args:
            goal: what to explain.
            offset: what is known of it but for its scale, ``[K, rows, classes]``.
        """
        draws, own = np.arange(len(goal)), goal.shape[1]
        variances = np.einsum("kcii->kci", self.inverses)[..., None]
        residuals = self.inverses @ goal[:, None] / variances
        scales = np.zeros(residuals.shape[:2])
        if offset is not None:
            # Scores of a row count up to a constant.
            offset = offset - offset.mean(axis=-1, keepdims=True)
            explained = self.inverses @ offset[:, None, :own] / variances
            inner, squared = (np.sum(explained * other, axis=(-2, -1)) for other in (residuals, explained))
            # An attacker knows the sign of what it stole.
            scales = np.maximum(0.0, inner / np.maximum(squared, _TINY))
            residuals = residuals - scales[..., None, None] * explained
        best = np.mean(residuals**2, axis=(-2, -1)).argmin(axis=1)
        candidate, scale = best // len(RIDGES), scales[draws, best][:, None, None]
        rest = goal if offset is None else goal - scale * offset[:, :own]
        kernels = self.chosen(candidate) + self.diagonal[draws, candidate][:, None, None]
        scores = kernels @ (self.inverses[draws, best] @ rest)
        return scores if offset is None else scores + scale * offset


def inner_products(features: np.ndarray, own: int) -> np.ndarray:
    """Of ``features`` ``[K, rows, F]``, centred and of mean squared norm 1, between all rows and the first ``own``: ``[K, rows, own]``."""
    centred = features - features.mean(axis=1, keepdims=True)
    norm = np.maximum(np.mean(np.sum(centred**2, axis=-1), axis=-1), _TINY)
    return centred @ centred[:, :own].swapaxes(-1, -2) / norm[:, None, None]


def raw_kernels(own: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> dict[str, Kernels]:
    """The kernels that raw features give, by the names of ``FAMILIES``.

    Args:
        own, targets: raw features of every draw, ``[own, f]`` and ``[targets, f]``.
    """
    rows = [np.concatenate(pair) for pair in zip(own, targets, strict=True)]
    return {name: Kernels(np.stack([family(one, len(own[0])) for one in rows])) for name, family in FAMILIES.items()}


def _scaled(rows: np.ndarray) -> list[np.ndarray]:
    """``rows`` standardised and on one scale, each of mean squared norm 1."""
    return [of_unit_norm(standardised(rows)), of_unit_norm(rows - rows.mean(axis=0))]


def _smooth(rows: np.ndarray, own: int) -> np.ndarray:
    found = []
    for scaled in _scaled(rows):
        distances = cdist(scaled, scaled[:own], "sqeuclidean")
        median = max(float(np.median(distances)), _TINY)
        inner = scaled @ scaled[:own].T
        found += [inner / 2 + np.exp(-width * distances / median) for width in _WIDTHS]
    return np.stack(found)


def _products(rows: np.ndarray, own: int) -> np.ndarray:
    scaled = _scaled(rows)[0] * np.sqrt(rows.shape[1])
    found = []
    for share in _SHARES:
        sizes = np.sqrt(np.prod((1 + share * scaled**2) / (1 + share), axis=1))
        # One feature at a time: all at once would take rows × own × features of memory.
        values = np.ones((len(rows), own))
        for column in scaled.T:
            values *= (1 + share * np.outer(column, column[:own])) / (1 + share)
        found.append(values / sizes[:, None] / sizes[:own])
    return np.stack(found)


def _graph(rows: np.ndarray, own: int) -> np.ndarray:
    found = []
    for scaled in _scaled(rows):
        neighbours = kneighbors_graph(scaled, min(_NEIGHBOURS, len(scaled) - 1))
        adjacency = neighbours.maximum(neighbours.T)
        roots = diags_array(1 / np.sqrt(np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1.0)))
        normalised = roots @ adjacency @ roots
        for spread in _SPREADS:
            system = eye_array(len(rows)) - spread * normalised
            starts = np.eye(len(rows), own)
            # For a few starts it is quicker not to factorise, and for very many rows impossible.
            if own > _MANY and len(rows) <= _FACTORISED:
                reached = splu(system.tocsc()).solve(starts)
            else:
                reached = np.stack([cg(system, start, rtol=1e-10)[0] for start in starts.T], axis=1)
            found.append(reached / np.trace(reached[:own]) * own)
    return np.stack(found)


def _blind(rows: np.ndarray, own: int) -> np.ndarray:
    return np.zeros((1, len(rows), own))


BLIND = "loot"
FAMILIES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "kernel": _smooth,
    "products": _products,
    "graph": _graph,
    BLIND: _blind,
}
"""name -> candidates ``[candidates, rows, own]`` from raw rows, of which the first ``own`` have a goal."""


def as_told(answers: np.ndarray, kind: str) -> np.ndarray:
    """Probabilities ``[..., classes]`` as who asks gets them: as they are, or of ``labels`` a 1 for the likeliest class."""
    return one_hot(answers.argmax(axis=-1), answers.shape[-1]) if kind == "labels" else answers


def label_goal(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """What a model explains of ``labels`` ``[...]``: ``[..., n_classes]``, 1 for the label, centred."""
    return one_hot(labels, n_classes) - 1 / n_classes


def log_odds(answers: np.ndarray) -> np.ndarray:
    """Logits, up to a constant per row, behind probabilities ``[..., classes]``."""
    logits = np.log(np.maximum(answers, _LEAST_PROBABILITY))
    return logits - logits.mean(axis=-1, keepdims=True)


LABELS, ANSWERS = "labels", "answers"
"""The goals by name; a model's name says which it was fitted to."""


def uses_answers(model: str) -> bool:
    """Whether the model of this name was fitted to answers of the service, alone or beside labels."""
    return ANSWERS in model.rpartition(", from ")[2]


def pooled(scores: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of several models' ``scores`` ``[K, rows, classes]``, each on the scale of its own spread in a draw."""
    return np.mean([one / np.maximum(one.std(axis=(1, 2), keepdims=True), _TINY) for one in scores], axis=0)


def unaided(kernels: Mapping[str, Kernels], goals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What can be made of ``goals`` without loot: scores ``[K, rows, classes]`` by the name of the model."""
    return _from_every_goal({name: kernels[name].regress for name in FAMILIES if name != BLIND}, goals)


def stacked(
    kernels: Mapping[str, Kernels], goals: Mapping[str, np.ndarray], readouts: np.ndarray, sums: np.ndarray | None
) -> dict[str, np.ndarray]:
    """What can be made of ``goals`` with loot: scores ``[K, rows, classes]`` by the name of the model.

    Args:
        kernels: see ``raw_kernels``.
        goals: name -> what to explain of the own rows, ``[K, own, classes]``.
        readouts: what the stolen circuits give for all rows, ``[K, rows, F]``.
        sums: what the known head makes of the stolen readouts, ``[K, rows, classes]``, or ``None`` where it is not known.
    """
    models: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    products = inner_products(readouts, kernels[BLIND].values.shape[-1])
    for name in FAMILIES:
        aided = Kernels(kernels[name].values, products)
        models[f"{name}, readouts"] = aided.regress
        if sums is not None:
            models[f"{name}, sums"] = partial(kernels[name].regress, offset=sums)
            models[f"{name}, both"] = partial(aided.regress, offset=sums)
    return _from_every_goal(models, goals)


def _from_every_goal(models: Mapping[str, Callable[[np.ndarray], np.ndarray]], goals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every model fitted to every goal, and the mean of what it makes of them."""
    found: dict[str, np.ndarray] = {}
    for name, model in models.items():
        scores = {goal: model(values) for goal, values in goals.items()}
        found |= {f"{name}, from {goal}": one for goal, one in scores.items()}
        if len(scores) > 1:
            found[f"{name}, from {' and '.join(scores)}"] = pooled(list(scores.values()))
    return found
