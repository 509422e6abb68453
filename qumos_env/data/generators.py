"""Generated classification tasks with a known rule.

Every generator takes numbers only, all with defaults, and returns ``(features, labels)``: float64 ``[rows, features]`` and
int64 ``[rows]``. Classes are balanced to within one row and rows come in random order; the same numbers give the same rows.

Two curves, the hidden manifold and hyperplane parity follow Bowles, Ahmed and Schuld, "Better than classical? The subtle art
of benchmarking quantum machine learning models" (arXiv 2403.07059, 2024).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import numpy as np

from ..errors import QumosError, unknown

Rows = tuple[np.ndarray, np.ndarray]

MINIMUM: dict[str, float] = {
    "rows": 8,
    "seed": 0,
    "features": 2,
    "degree": 1,
    "noise": 0,
    "manifold": 1,
    "planes": 1,
    "dimensions": 2,
    "relevant": 0,
    "margin": 0,
    "pairs": 0,
    "unequal": 0,
}
"""Smallest allowed value of a parameter; the largest are bounds of the data section."""

ROUNDS = 200
"""How often more points are drawn for a rare class before giving up."""


def two_curves(rows: int = 1000, seed: int = 0, features: int = 8, degree: int = 5, offset: float = 0.1, noise: float = 0.01) -> Rows:
    """Points near two copies of one random curve, shifted against each other; the copy is the class.

    The curve is a Fourier series in every dimension, ``x_i(t) = Σ_k a_ik cos(πkt) + b_ik sin(πkt)`` for k = 0..``degree`` and
    uniform t in [0, 1], with coefficients uniform in [0, 1] and then scaled to unit norm over all dimensions. The second class
    is shifted by ``offset`` in every dimension, and every value gets Gaussian ``noise`` (a standard deviation). Columns are
    standardised. The paper's "two curves diff" is ``offset = 1 / (2 * degree)`` with ``features = 10``.

    Source: Bowles et al. 2024, after Buchanan, Gilboa and Wright, "Deep networks and the multiple manifold problem" (2021).
    """
    generator = np.random.default_rng(seed)
    coefficients = generator.uniform(size=(2 * (degree + 1), features))
    coefficients /= np.linalg.norm(coefficients)
    labels = _balanced(rows, 2, generator)
    angles = np.pi * generator.uniform(size=(rows, 1)) * np.arange(degree + 1)
    points = np.hstack([np.cos(angles), np.sin(angles)]) @ coefficients
    points += offset * labels[:, None] + noise * generator.normal(size=points.shape)
    return _standardised(points), labels


def hidden_manifold(rows: int = 1000, seed: int = 0, features: int = 8, manifold: int = 6, noise: float = 0.0) -> Rows:
    """Points of a ``manifold``-dimensional Gaussian, embedded non-linearly, labelled by a random network on the manifold.

    With hidden point c: ``x = tanh(c F / sqrt(m) - b)``, F normal, b uniform in [-1, 1]; the class is whether
    ``v · tanh(W c)``, W and v normal, is above its median. Gaussian ``noise`` is added to x.

    Source: Bowles et al. 2024, after Goldt et al., "Modeling the influence of data structure on learning in neural networks:
    the hidden manifold model" (2020).
    """
    generator = np.random.default_rng(seed)
    embedding = generator.normal(size=(manifold, features))
    biases = generator.uniform(-1, 1, size=features)
    weights, readout = generator.normal(size=(manifold, manifold)), generator.normal(size=manifold)
    hidden = generator.normal(size=(rows, manifold))
    points = np.tanh(hidden @ embedding / np.sqrt(manifold) - biases) + noise * generator.normal(size=(rows, features))
    scores = np.tanh(hidden @ weights.T) @ readout
    # Ranks instead of a comparison with the median: balanced for an odd number of rows too.
    return points, (scores.argsort().argsort() >= rows // 2).astype(np.int64)


def hyperplanes(rows: int = 1000, seed: int = 0, features: int = 8, planes: int = 2, dimensions: int = 3, noise: float = 0.0) -> Rows:
    """Gaussian points, labelled by the parity of the number of hyperplanes they lie above, then embedded linearly.

    The hyperplanes ``w · z + b > 0`` live in ``dimensions`` dimensions, w a uniform direction, b uniform in [-½, ½] (the paper
    draws both from [0, 1], which makes the planes nearly parallel); class 1 lies above an odd number. The embedding
    ``x = z E``, E uniform in [0, 1], is followed by Gaussian ``noise`` and standardisation.

    Raises:
        QumosError: one class is too rare for this seed.

    Source: Bowles et al. 2024, "hyperplanes and parity".
    """
    generator = np.random.default_rng(seed)
    normals = generator.normal(size=(planes, dimensions))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    biases = generator.uniform(-0.5, 0.5, size=planes)
    embedding = generator.uniform(size=(dimensions, features))
    labels = _balanced(rows, 2, generator)
    hidden = np.empty((rows, dimensions))
    missing = [np.flatnonzero(labels == label) for label in range(2)]
    for _ in range(ROUNDS):
        fresh = generator.normal(size=(4 * rows, dimensions))
        odd = (fresh @ normals.T + biases > 0).sum(axis=1) % 2
        for label in range(2):
            found = fresh[odd == label][: len(missing[label])]
            hidden[missing[label][: len(found)]] = found
            missing[label] = missing[label][len(found) :]
        if not any(map(len, missing)):
            points = hidden @ embedding
            return _standardised(points + noise * generator.normal(size=points.shape)), labels
    raise QumosError(f"data set 'hyperplanes': one class is too rare with seed {seed} and {planes} planes; choose another seed")


def parity(rows: int = 1000, seed: int = 0, features: int = 8, relevant: int = 0, margin: float = 0.0, noise: float = 0.0) -> Rows:
    """Sign parity inside each half of the features: four classes, ``2·(first half odd) + (second half odd)``.

    A half is odd if an odd number of its first ``relevant`` features (0: of all its features) is negative; the first half is
    the first ``features // 2`` features. Sizes of features are uniform in [``margin``, 1], signs are random, and Gaussian
    ``noise`` comes on top. No proper subset of the relevant features says anything about their parity (Minsky and Papert,
    "Perceptrons", 1969), but parts that hold one half each need no gate across.

    Raises:
        QumosError: ``relevant`` is more than half of the features, or ``margin`` is 1 or more.
    """
    generator = np.random.default_rng(seed)
    labels = _balanced(rows, 4, generator)
    return _signed(labels // 2, labels % 2, features, relevant, margin, noise, generator), labels


def parity_cut(rows: int = 1000, seed: int = 0, features: int = 8, relevant: int = 0, margin: float = 0.0, noise: float = 0.0) -> Rows:
    """Sign parity across the two halves of the features: class 1 if exactly one half is odd, see ``parity``.

    Each half alone is independent of the class, so a model that adds what two halves say cannot learn it: it needs a gate
    across the cut.

    Raises:
        QumosError: as for ``parity``.
    """
    generator = np.random.default_rng(seed)
    labels = _balanced(rows, 2, generator)
    first = generator.integers(2, size=rows)
    return _signed(first, first ^ labels, features, relevant, margin, noise, generator), labels


def waves(rows: int = 1000, seed: int = 0, features: int = 8, pairs: int = 0, unequal: float = 0.5, noise: float = 0.0) -> Rows:
    """Uniform features, labelled by whether a sum of waves, one in each feature, is above its median.

    With u uniform in [0, 1] the sum is ``Σ_i w_i cos(πu_i + φ_i) + Σ_(i,j) v_ij cos(πu_i + α_ij) cos(πu_j + β_ij)`` over ``pairs`` disjoint
    pairs of features, phases uniform, the sizes of the weights log-normal with standard deviation ``unequal`` and of random sign; waves
    that pairs multiply weigh twice as much, which makes up for their smaller variance. Gaussian ``noise`` is added to the sum, in units of
    its standard deviation. Features are independent and uniform, so rows without labels say nothing about the classes, and no few labels
    tell all phases and weights; a sum falls apart into what parts of the features say, in some ways more evenly than in others.

    Raises:
        QumosError: more than ``features // 2`` pairs.
    """
    if pairs > features // 2:
        raise QumosError(f"data set 'waves': pairs is {pairs:g}, at most {features // 2} fit into {features} features")
    generator = np.random.default_rng(seed)

    def weights(count: int) -> np.ndarray:
        return np.exp(unequal * generator.normal(size=count)) * generator.choice([-1.0, 1.0], size=count)

    angles = np.pi * generator.uniform(size=(rows, features))
    total = np.cos(angles + generator.uniform(0, 2 * np.pi, size=features)) @ weights(features)
    if pairs:
        partners = generator.permutation(features)[: 2 * pairs].reshape(pairs, 2)
        both = np.cos(angles[:, partners] + generator.uniform(0, 2 * np.pi, size=(pairs, 2))).prod(axis=2)
        total = total + 2 * both @ weights(pairs)
    total = total + noise * total.std() * generator.normal(size=rows)
    # Ranks instead of a comparison with the median: balanced for an odd number of rows too.
    return angles / np.pi, (total.argsort().argsort() >= rows // 2).astype(np.int64)


GENERATORS: dict[str, Callable[..., Rows]] = {
    "two-curves": two_curves,
    "hidden-manifold": hidden_manifold,
    "hyperplanes": hyperplanes,
    "waves": waves,
    "parity": parity,
    "parity-cut": parity_cut,
}


def generate(name: str, parameters: Mapping[str, float | int]) -> Rows:
    """The rows of task ``name`` with these parameters, the defaults for all others.

    Raises:
        QumosError: an unknown parameter, or a value out of range.
    """
    function = GENERATORS[name]
    defaults = {key: parameter.default for key, parameter in inspect.signature(function).parameters.items()}
    return function(**checked_parameters(name, parameters, defaults))


def checked_parameters(name: str, parameters: Mapping[str, float | int], defaults: Mapping[str, float | int]) -> dict[str, float | int]:
    """``parameters`` of data set ``name`` with the types of ``defaults``.

    Raises:
        QumosError: a name not in ``defaults``, a fraction for a whole number, a value that is too small.
    """
    checked: dict[str, float | int] = {}
    for key, value in parameters.items():
        if key not in defaults:
            raise unknown(f"parameter of data set {name!r}", key, defaults)
        whole = isinstance(defaults[key], int)
        if whole and value != int(value):
            raise QumosError(f"data set {name!r}: {key} must be a whole number, got {value}")
        if value < MINIMUM.get(key, value):
            raise QumosError(f"data set {name!r}: {key} must be at least {MINIMUM[key]:g}, got {value}")
        checked[key] = int(value) if whole else float(value)
    return checked


def _balanced(rows: int, classes: int, generator: np.random.Generator) -> np.ndarray:
    return generator.permutation(np.arange(rows, dtype=np.int64) % classes)


def _signed(
    first: np.ndarray, second: np.ndarray, features: int, relevant: int, margin: float, noise: float, generator: np.random.Generator
) -> np.ndarray:
    """Points ``[rows, features]`` whose halves are odd exactly where ``first`` and ``second`` are 1."""
    half = features // 2
    if relevant > half:
        raise QumosError(f"parity: relevant is {relevant}, half of the features is {half}")
    if margin >= 1:
        raise QumosError(f"parity: margin must be below 1, got {margin:g}")
    points = generator.uniform(margin, 1, size=(len(first), features)) * generator.choice([-1.0, 1.0], size=(len(first), features))
    for odd, start, stop in ((first, 0, half), (second, half, features)):
        stop = start + relevant if relevant else stop
        wrong = (points[:, start:stop] < 0).sum(axis=1) % 2 != odd
        points[wrong, start] *= -1
    return points + noise * generator.normal(size=points.shape)


def _standardised(points: np.ndarray) -> np.ndarray:
    return (points - points.mean(axis=0)) / points.std(axis=0)
