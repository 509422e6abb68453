"""How alike two rows are: families of kernels between all rows and the few that have a goal.

    kernel        ⟨x, x'⟩/2 + exp(−γ|x − x'|²/m)   on raw features, standardised or on one scale, m the median distance
    latent        the same Gaussian, and the squares and products, of whitened leading principal components
    products      Πᵢ (1 + c·xᵢx'ᵢ)/(1 + c)          on standardised features, normalised: holds every product of features
    interactions  Σ over all sets of two (three) features of Π xᵢx'ᵢ, on standardised features or their signs: parities of two (three)
    details       ⟨z, z'⟩                           z the leading principal components of what a smooth function of all features leaves
                                                    of each: where classes are one shape that is shifted a little, this is the shift
    graph         (1 − αS)⁻¹                        S the normalised adjacency of a graph of nearest neighbours among all rows, which
                                                    spreads labels along clusters (Zhou et al., 2003)
    loot          0                                 for those who hold loot and do not look at features

Sums over sets of features are elementary symmetric polynomials, hence cheap (ANOVA kernels; Shawe-Taylor and Cristianini, 2004, section
9.2).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import diags_array, eye_array
from scipy.sparse.linalg import cg, splu
from scipy.spatial.distance import cdist
from sklearn.neighbors import kneighbors_graph

from ..scaling import of_unit_norm, standardised

_WIDTHS = (0.5, 1.0, 2.0, 4.0)
_SHARES = (0.3, 1.0, 3.0)
_NEIGHBOURS = 7
_SPREADS = (0.9, 0.99)
_MANY, _FACTORISED = 40, 10_000  # own rows beyond which, and rows up to which, the system of a graph is factorised
_ORDERS = (2, 3)
_MOST_COMPONENTS = 8
_LENGTHS, _ROUGHNESS, _MOST_SMOOTHED = (0.5, 1.4), 2.0, 800
"""Of what is smooth: its length in median distances, and the weight of what is not; fitted on at most so many rows."""
_DETAILS = (1, 3)
_TINY = 1e-12


def components(rows: np.ndarray) -> np.ndarray:
    """The leading principal components of ``rows`` ``[rows, f]``, at most eight, each with variance 1."""
    left, sizes, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    kept = min(int(np.sum(sizes > 1e-6 * max(sizes[0], _TINY))), _MOST_COMPONENTS)
    return np.asarray(left[:, : max(kept, 1)] * np.sqrt(len(rows)))


def symmetric_products(one: np.ndarray, other: np.ndarray, order: int) -> np.ndarray:
    """Σ over all sets of ``order`` features of Π xᵢx'ᵢ over the set: ``[..., n, m]`` for ``[..., n, f]`` and ``[..., m, f]``."""
    shape = (*one.shape[:-1], other.shape[-2])
    found = [np.ones(shape), *(np.zeros(shape) for _ in range(order))]
    for feature in range(one.shape[-1]):
        alike = one[..., :, None, feature] * other[..., None, :, feature]
        for size in range(order, 0, -1):
            found[size] = found[size] + alike * found[size - 1]
    return found[order]


def unit_diagonal(values: np.ndarray, own: int) -> np.ndarray:
    """Kernels ``[..., rows, own]`` with a mean diagonal of 1 over the own rows."""
    size = np.einsum("...ii->...", values[..., :own, :]) / own
    return np.asarray(values / np.maximum(size, _TINY)[..., None, None])


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


def _latent(rows: np.ndarray, own: int) -> np.ndarray:
    hidden = components(rows)
    distances = cdist(hidden, hidden[:own], "sqeuclidean")
    median = max(float(np.median(distances)), _TINY)
    # All squares and products of two at once; without the linear part, which no parity has.
    inner = hidden @ hidden[:own].T
    squares = inner**2 - np.mean(inner**2)
    gaussians = [np.exp(-width * distances / median) for width in _WIDTHS[1::2]]
    return np.stack([*gaussians, *unit_diagonal(np.stack([squares, inner + inner**2]), own)])


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


def _interactions(rows: np.ndarray, own: int) -> np.ndarray:
    plain = standardised(rows) if rows.shape[1] <= 2 * _MOST_COMPONENTS else components(rows)
    found = [symmetric_products(form, form[:own], order) for form in (plain, np.sign(plain)) for order in _ORDERS]
    return unit_diagonal(np.stack(found), own)


def smoother(rows: np.ndarray, length: float, roughness: float) -> np.ndarray:
    """What a smooth function of all features makes of values at the first and every further n-th of ``rows`` ``[rows, f]``: ``[rows, m]``.

    Gaussian kernel regression, its length in median distances; the m rows, 800 at most, are those of ``smoothed``.
    """
    scaled = standardised(rows)
    chosen = scaled[smoothed(len(rows))]
    within = cdist(chosen, chosen)
    size = length * max(float(np.median(within)), _TINY)
    among = np.exp(-0.5 * (within / size) ** 2) + roughness * np.eye(len(chosen))
    alike = np.exp(-0.5 * (cdist(scaled, chosen) / size) ** 2)
    return np.asarray(np.linalg.solve(among, alike.T).T)


def smoothed(rows: int) -> slice:
    """Which of so many rows a ``smoother`` rests on."""
    return slice(None, None, max(1, -(-rows // _MOST_SMOOTHED)))


def _details(rows: np.ndarray, own: int) -> np.ndarray:
    scaled, found = standardised(rows), []
    for length in _LENGTHS:
        leading = components(scaled - smoother(rows, length, _ROUGHNESS) @ scaled[smoothed(len(rows))])
        found += [leading[:, :count] @ leading[:own, :count].T for count in _DETAILS]
    return unit_diagonal(np.stack(found), own)


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
    "latent": _latent,
    "products": _products,
    "interactions": _interactions,
    "details": _details,
    "graph": _graph,
    BLIND: _blind,
}
"""name -> candidates ``[candidates, rows, own]`` from raw rows, of which the first ``own`` have a goal."""


def angle_kernels(angles: np.ndarray, own: int) -> np.ndarray:
    """Kernels ``[K, candidates, rows, own]`` on encoded ``angles`` ``[K, rows, qubits]``, for the features of a part of the register.

    Πᵢ (1 + cos(φᵢ − φ'ᵢ))/2 holds every function that a circuit can make of inputs that are encoded once, a Fourier series of one frequency
    per qubit (Schuld, Sweke and Meyer, 2021). Beside it Gaussians, all interactions of at most two qubits, and those of just two and three.
    """
    differences = angles[:, :, None] - angles[:, None, :own]
    fourier = np.prod((1 + np.cos(differences)) / 2, axis=-1)
    centred = angles - angles.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    plain = centred / np.where(spread > _TINY, spread, np.inf)
    distances = np.sum((plain[:, :, None] - plain[:, None, :own]) ** 2, axis=-1)
    median = np.maximum(np.median(distances, axis=(1, 2), keepdims=True), _TINY)
    gaussians = [np.exp(-width * distances / median) for width in (0.5, 2.0)]
    at_most_two = plain @ plain[:, :own].swapaxes(1, 2) + symmetric_products(plain, plain[:, :own], 2)
    orders = [order for order in _ORDERS if order <= angles.shape[-1]]
    found = [symmetric_products(form, form[:, :own], order) for form in (plain, np.sign(plain)) for order in orders]
    return unit_diagonal(np.stack([fourier, *gaussians, at_most_two, *found], axis=1), own)
