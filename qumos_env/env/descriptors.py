"""Descriptors of a data set as its owner sees it: how hard it is, for which models, and which qubits matter to whom.

Everything is computed from encoded rows outside the test split with the labels in the owner's records, in closed form and without chance:
the same rows in any order give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from threadpoolctl import threadpool_limits

from ..data import Preprocessor, make_protocol
from ..data.stratified import allot
from ..scenario import Scenario

MOST_ROWS = 400
"""Rows that are looked at, stratified: matrices between all of them are solved."""
_RIDGE = 1e-2  # of the kernel machines, per row
_RESAMPLES = 8  # sets of thief rows

FIGURES = (
    "rows",
    "features",
    "classes",
    "balance",
    "chance",
    "linear",
    "kernel",
    "neighbour",
    "thief_linear",
    "thief_kernel",
    "two_nn_dimension",
    "participation",
)
QUBIT_FIGURES = ("relevance", "joint_relevance", "unique", "spread")


@dataclass(frozen=True, eq=False)
class Descriptors:
    """What a data set is like; every array is float32 in [0, 1].

    Attributes:
        figures: float32 ``[len(FIGURES)]``: x/(x + half) of rows (half 1,000), raw features (half 16) and classes (half 4); entropy of the
            classes over its maximum; share of the largest class; leave-one-out accuracy of ridge regression, of Gaussian kernel ridge
            regression and of the nearest neighbour; accuracy of both ridge regressions fitted to as few rows as the thief has;
            intrinsic dimension by the ratio of the distances to two neighbours, over the number of qubits; participation ratio of the
            principal variances, over the number of qubits.
        qubits: float32 ``[qubits, 4]``: share of the variance of an angle that lies between classes; the largest entry of ``pairs`` in
            its row; by how much the leave-one-out accuracy of kernel regression falls without it, of what is above chance; standard
            deviation over that of a uniform angle, at most 1.
        pairs: float32 ``[qubits, qubits]``: share of the variance of the product of two standardised angles that lies between classes.
        triples: float32 ``[qubits, qubits]``: the same of the product of these two and a third one, the best there is.
        correlations: float32 ``[qubits, qubits]``: size of the correlation of two angles.
    """

    figures: np.ndarray
    qubits: np.ndarray
    pairs: np.ndarray
    triples: np.ndarray
    correlations: np.ndarray


def scenario_descriptors(scenario: Scenario) -> Descriptors:
    """The descriptors of the rows of ``scenario`` outside its test split.

    Raises:
        QumosError: the rows cannot be read, see ``make_protocol``.
    """
    protocol = make_protocol(scenario.data, scenario.draws, scenario.design.qubits)
    features, labels = protocol.dataset.features[protocol.rest], protocol.observed_labels[protocol.rest]
    classes = len(protocol.dataset.class_names)
    with threadpool_limits(1):
        order = canonical_order(features, labels)
        features, labels = features[order], labels[order]
        owner = Preprocessor.fit(features, scenario.data, scenario.design.qubits, labels=labels)
        angles = owner.transform(features)
        low, high = scenario.data.angle_range
        thief_rows = scenario.draws.thief_rows_per_class
        return describe((angles - low) / (high - low), labels, classes, raw_features=features.shape[1], thief_rows=thief_rows)


def canonical_order(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """An order of the rows that does not depend on the one they come in: by features, then label."""
    return np.lexsort((labels, *features.T[::-1]))


def describe(values: np.ndarray, labels: np.ndarray, classes: int, *, raw_features: int, thief_rows: int) -> Descriptors:
    """The descriptors of encoded rows.

    Args:
        values: float64 ``[rows, qubits]``, angles as shares of their range.
        labels: int64 ``[rows]`` in 0..classes − 1.
        classes: number of classes.
        raw_features: number of features before they were reduced.
        thief_rows: labelled rows of every class that a thief has.
    """
    order = canonical_order(values, labels)
    values, labels = values[order], labels[order]
    rows = len(labels)
    counts = np.bincount(labels, minlength=classes)
    shares = counts / rows
    kept = _thinned(labels, counts)
    values, labels = values[kept], labels[kept]
    targets = np.eye(classes)[labels]
    standard = _standardised(values)
    distances = _square_distances(standard)
    kernel = _gaussian(distances)
    thieves = _thief_rows(labels, classes, thief_rows)
    present = shares[shares > 0]
    figures = [
        rows / (rows + 1000),
        raw_features / (raw_features + 16),
        classes / (classes + 4),
        float(-(present * np.log(present)).sum() / np.log(classes)),
        shares.max(),
        _left_out_accuracy(standard @ standard.T + 1, targets),
        _left_out_accuracy(kernel, targets),
        _neighbour_accuracy(distances, labels),
        _few_rows_accuracy(standard @ standard.T + 1, targets, thieves),
        _few_rows_accuracy(kernel, targets, thieves),
        _two_nn(distances) / values.shape[1],
        _participation(standard) / values.shape[1],
    ]
    pairs, triples = _product_relevance(standard, targets)
    relevance = _between(standard, targets)
    spread = values.std(axis=0) * np.sqrt(12)
    unique = _unique(standard, distances, labels, float(shares.max()))
    qubits = np.stack([relevance, pairs.max(axis=1, initial=0), unique, spread], axis=1)
    correlations = np.abs(standard.T @ standard) / len(standard) * (1 - np.eye(values.shape[1]))
    return Descriptors(_unit(np.array(figures)), _unit(qubits), _unit(pairs), _unit(triples), _unit(correlations))


def _unit(values: np.ndarray) -> np.ndarray:
    found = np.clip(values, 0, 1).astype(np.float32)
    found.setflags(write=False)
    return found


def _thinned(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """At most ``MOST_ROWS`` of the rows, in the proportions of the classes, evenly spread over each."""
    if len(labels) <= MOST_ROWS:
        return np.arange(len(labels))
    chosen = []
    for label, quota in enumerate(allot(MOST_ROWS, counts)):
        there = np.flatnonzero(labels == label)
        chosen.append(there[np.arange(quota) * len(there) // max(1, quota)])
    return np.sort(np.concatenate(chosen))


def _standardised(values: np.ndarray) -> np.ndarray:
    deviation = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(deviation > 1e-12, deviation, np.inf)


def _square_distances(values: np.ndarray) -> np.ndarray:
    # Feature by feature, as the difference of squares would cancel for neighbours.
    return np.asarray(sum((column[:, None] - column) ** 2 for column in values.T))


def _gaussian(distances: np.ndarray) -> np.ndarray:
    return np.exp(-distances / max(float(np.median(distances)), 1e-12))


def _left_out_accuracy(kernel: np.ndarray, targets: np.ndarray) -> float:
    """Leave-one-out accuracy of kernel ridge regression on the classes, ``y − G⁻¹(y − ȳ) / diag G⁻¹`` with G = K + λ·n·1.

    Source: Rifkin and Lippert, "Notes on regularized least squares", MIT-CSAIL-TR-2007-025, section 4.
    """
    size = len(kernel)
    inverse = cho_solve(cho_factor(kernel + _RIDGE * size * np.eye(size)), np.eye(size))
    centred = targets - targets.mean(axis=0)
    answers = targets - (inverse @ centred) / np.diag(inverse)[:, None]
    return _accuracy(answers, targets)


def _few_rows_accuracy(kernel: np.ndarray, targets: np.ndarray, subsets: list[np.ndarray]) -> float:
    """Accuracy on all other rows of kernel ridge regression on each of ``subsets``, on average."""
    found = []
    for chosen in subsets:
        others = np.setdiff1d(np.arange(len(kernel)), chosen)
        if not len(others):
            continue
        block = kernel[np.ix_(chosen, chosen)] + _RIDGE * len(chosen) * np.eye(len(chosen))
        weights = cho_solve(cho_factor(block), targets[chosen] - targets[chosen].mean(axis=0))
        found.append(_accuracy(kernel[np.ix_(others, chosen)] @ weights, targets[others]))
    return float(np.mean(found)) if found else 0.0


def _accuracy(answers: np.ndarray, targets: np.ndarray) -> float:
    return float((answers.argmax(axis=1) == targets.argmax(axis=1)).mean())


def _thief_rows(labels: np.ndarray, classes: int, rows: int) -> list[np.ndarray]:
    """Sets of ``rows`` rows of every class. The seed is a constant: a descriptor is a function of the rows."""
    generator = np.random.default_rng([rows, classes, 1])
    pools = [np.flatnonzero(labels == label) for label in range(classes)]
    return [np.concatenate([generator.permutation(pool)[:rows] for pool in pools]) for _ in range(_RESAMPLES)]


def _neighbour_accuracy(distances: np.ndarray, labels: np.ndarray) -> float:
    others = distances + np.diag(np.full(len(distances), np.inf))
    return float((labels[others.argmin(axis=1)] == labels).mean())


def _two_nn(distances: np.ndarray) -> float:
    """Intrinsic dimension by maximum likelihood, ``n / Σ log(r₂/r₁)``; 0 where rows coincide.

    Source: Facco, d'Errico, Rodriguez and Laio, "Estimating the intrinsic dimension of datasets by a minimal neighborhood information",
    Scientific Reports 7 (2017).
    """
    if len(distances) < 3:
        return 0.0
    others = distances + np.diag(np.full(len(distances), np.inf))
    first, second = np.partition(others, 1, axis=1)[:, :2].T
    apart = first > 0
    logs = np.log(second[apart] / first[apart]) / 2
    return float(len(logs) / logs.sum()) if logs.sum() > 0 else 0.0


def _participation(standard: np.ndarray) -> float:
    """How many principal directions share the variance, ``(Σλ)² / Σλ²``."""
    variances = np.linalg.eigvalsh(standard.T @ standard)
    return float(variances.sum() ** 2 / (variances**2).sum()) if (variances > 0).any() else 0.0


def _between(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Share of the variance of every column of ``values`` that lies between classes (the correlation ratio η²)."""
    centred = values - values.mean(axis=0)
    total = (centred**2).sum(axis=0)
    counts = np.maximum(targets.sum(axis=0), 1)
    between = ((targets.T @ centred) ** 2 / counts[:, None]).sum(axis=0)
    return np.where(total > 1e-12, between / np.where(total > 1e-12, total, 1), 0.0)


def _product_relevance(standard: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``_between`` of the products of two columns, and the largest of those of the two and a third; 0 on the diagonals."""
    width = standard.shape[1]
    pairs, triples = np.zeros((width, width)), np.zeros((width, width))
    for first, second in combinations(range(width), 2):
        product = standard[:, first] * standard[:, second]
        others = [column for column in range(width) if column not in (first, second)]
        found = _between(product[:, None] * np.column_stack([np.ones(len(product)), standard[:, others]]), targets)
        pairs[first, second] = pairs[second, first] = found[0]
        triples[first, second] = triples[second, first] = found[1:].max(initial=0)
    return pairs, triples


def _unique(standard: np.ndarray, distances: np.ndarray, labels: np.ndarray, chance: float) -> np.ndarray:
    """By how much the leave-one-out accuracy of kernel regression falls without each column, of what is above chance; at least 0.

    Kernel regression, because leaving out a column costs no more than another exponential, and it sees dependences of any order.
    """
    scale = max(float(np.median(distances)), 1e-12) / 8  # narrow: a few neighbours decide
    targets = np.eye(labels.max() + 1)[labels]

    def accuracy(squares: np.ndarray) -> float:
        # Relative to the nearest row, or far rows would have no weight at all.
        others = squares + np.diag(np.full(len(squares), np.inf))
        weights = np.exp(-(others - others.min(axis=1, keepdims=True)) / scale)
        return float(((weights @ targets).argmax(axis=1) == labels).mean())

    whole = accuracy(distances)
    falls = [whole - accuracy(np.maximum(distances - (column[:, None] - column) ** 2, 0)) for column in standard.T]
    return np.array(falls) / max(whole - chance, 0.05)
