"""Closed-form models of adversaries: against scikit-learn, dense algebra and planted truths."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from qumos_env.evaluation.surrogates import FAMILIES, RIDGES, Kernels, log_odds, pooled, raw_kernels, stacked, unaided


def rows(seed: int, own: int = 9, targets: int = 40, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Raw features of very different scale."""
    generator = np.random.default_rng(seed)
    scale = 10.0 ** generator.uniform(-1, 1, width)
    return generator.normal(size=(own, width)) * scale, generator.normal(size=(targets, width)) * scale


def one_kernel(seed: int) -> tuple[Kernels, np.ndarray]:
    """A single candidate, and its values."""
    own, targets = rows(seed)
    together = np.concatenate([own, targets])
    values = rbf_kernel(StandardScaler().fit_transform(together))[:, : len(own)]
    return Kernels(values[None, None]), values


def left_out(values: np.ndarray, goal: np.ndarray, ridge: float) -> np.ndarray:
    """What kernel ridge regression, refitted without each row, predicts for it. The constant feature is as large as the kernel."""
    own = len(goal)
    size = np.mean(np.diag(values[:own]))
    kernel = values + size
    found = []
    for row in range(own):
        others = np.arange(own) != row
        fitted = KernelRidge(alpha=ridge * size, kernel="precomputed").fit(kernel[:own][np.ix_(others, others)], goal[others])
        found.append(fitted.predict(kernel[row : row + 1, others])[0])
    return np.array(found)


@pytest.mark.parametrize("seed", range(4))
def test_the_ridge_is_the_one_that_predicts_left_out_rows_best(seed: int) -> None:
    """Oracle: scikit-learn, refitted without each row."""
    kernels, values = one_kernel(seed)
    goal = np.random.default_rng([seed, 1]).normal(size=(9, 3))
    errors = [np.mean((left_out(values, goal, ridge) - goal) ** 2) for ridge in RIDGES]
    size = np.mean(np.diag(values[:9]))
    best = KernelRidge(alpha=RIDGES[int(np.argmin(errors))] * size, kernel="precomputed").fit(values[:9] + size, goal)
    np.testing.assert_allclose(kernels.regress(goal[None])[0], best.predict(values + size), atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_a_known_part_is_added_on_the_scale_that_predicts_left_out_rows_best(seed: int) -> None:
    """Oracle: scikit-learn on what is left of the goal, refitted for every scale of a fine grid."""
    kernels, values = one_kernel(seed)
    generator = np.random.default_rng([seed, 2])
    known = generator.normal(size=(49, 3))
    known -= known.mean(axis=1, keepdims=True)
    goal = 1.3 * known[:9] + generator.normal(0, 0.3, (9, 3))
    size = np.mean(np.diag(values[:9]))
    found = []
    for ridge in RIDGES:
        for scale in np.linspace(0, 3, 301):
            rest = goal - scale * known[:9]
            error = np.mean((left_out(values, rest, ridge) - rest) ** 2) if abs(scale - 1.3) < 0.5 else np.inf
            found.append((error, ridge, scale))
    _, ridge, scale = min(found)
    fitted = KernelRidge(alpha=ridge * size, kernel="precomputed").fit(values[:9] + size, goal - scale * known[:9])
    expected = fitted.predict(values + size) + scale * known
    np.testing.assert_allclose(kernels.regress(goal[None], offset=known[None])[0], expected, atol=0.05)


def test_a_known_part_of_the_wrong_sign_is_left_out() -> None:
    kernels, _ = one_kernel(0)
    known = np.random.default_rng(3).normal(size=(1, 49, 3))
    goal = -known[:, :9]
    np.testing.assert_allclose(kernels.regress(goal, offset=known), kernels.regress(goal), atol=1e-9)


def test_draws_do_not_mix() -> None:
    """Many at once are each by itself."""
    pairs = [rows(seed) for seed in range(3)]
    together = raw_kernels([own for own, _ in pairs], [targets for _, targets in pairs])
    generator = np.random.default_rng(5)
    goal, known, readouts = (generator.normal(size=shape) for shape in ((3, 9, 4), (3, 49, 4), (3, 49, 6)))
    all_of_them = stacked(together, {"labels": goal}, readouts, known)
    for draw, (own, targets) in enumerate(pairs):
        alone = stacked(raw_kernels([own], [targets]), {"labels": goal[draw : draw + 1]}, readouts[draw : draw + 1], known[draw : draw + 1])
        assert alone.keys() == all_of_them.keys()
        for name, scores in alone.items():
            np.testing.assert_allclose(scores[0], all_of_them[name][draw], atol=1e-7, err_msg=name)


def test_the_smooth_family_is_linear_plus_gaussian() -> None:
    """Every candidate is, up to its size, linear plus Gaussian in standardised or centred features, as scikit-learn computes it."""
    own, targets = rows(7)
    together = np.concatenate([own, targets])
    candidates = FAMILIES["kernel"](together, len(own))
    found = []
    for scaled in (StandardScaler().fit_transform(together), together - together.mean(axis=0)):
        scaled = scaled / np.sqrt(np.mean(np.sum(scaled**2, axis=1)))
        squared = np.sum((scaled[:, None] - scaled[None, : len(own)]) ** 2, axis=-1)
        for width in (0.5, 1.0, 2.0, 4.0):
            length = np.sqrt(np.median(squared) / (2 * width))
            kernel = ConstantKernel(0.5) * DotProduct(0.0) + RBF(length)
            found.append(kernel(scaled, scaled[: len(own)]))
    np.testing.assert_allclose(candidates, found, atol=1e-9)


def test_products_hold_a_parity() -> None:
    """Oracle: the sum over all subsets of features of their products; and three signs whose product is the class."""
    own, targets = rows(5, own=4, targets=6, width=3)
    together = np.concatenate([own, targets])
    scaled = StandardScaler().fit_transform(together)
    for share, found in zip((0.3, 1.0, 3.0), FAMILIES["products"](together, 4), strict=True):
        subsets = [list(chosen) for size in range(4) for chosen in combinations(range(3), size)]
        monomials = np.stack([np.sqrt(share ** len(chosen)) * scaled[:, chosen].prod(axis=1) for chosen in subsets], axis=1)
        monomials /= np.linalg.norm(monomials, axis=1, keepdims=True)
        np.testing.assert_allclose(found, monomials @ monomials[:4].T, atol=1e-9)
    generator = np.random.default_rng(0)
    points = generator.choice([-1.0, 1.0], (200, 3)) * generator.uniform(0.5, 1, (200, 3))
    labels = (points.prod(axis=1) > 0).astype(int)
    scores = unaided(raw_kernels([points[:16]], [points[16:]]), {"labels": np.eye(2)[labels[:16]][None] - 0.5})
    assert np.mean(scores["products, from labels"][0, 16:].argmax(axis=1) == labels[16:]) > 0.95
    assert np.mean(scores["kernel, from labels"][0, 16:].argmax(axis=1) == labels[16:]) < 0.9


def test_the_graph_spreads_along_neighbours() -> None:
    """Oracle: (1 − αS)⁻¹ by dense algebra; labels of two moons follow the moons, which a straight border does not."""
    generator = np.random.default_rng(0)
    angle = generator.uniform(0, np.pi, 300)
    upper = generator.random(300) < 0.5
    moons = np.stack([np.cos(angle) + np.where(upper, 0, 1), np.where(upper, np.sin(angle), 0.4 - np.sin(angle))], axis=1)
    moons += generator.normal(0, 0.05, moons.shape)
    own = np.concatenate([np.flatnonzero(upper)[:2], np.flatnonzero(~upper)[:2]])
    order = np.concatenate([own, np.setdiff1d(np.arange(300), own)])
    together = moons[order]
    candidates = FAMILIES["graph"](together, 4)
    centred = together - together.mean(axis=0)
    neighbours = NearestNeighbors(n_neighbors=8).fit(centred).kneighbors(centred, return_distance=False)[:, 1:]
    adjacency = np.zeros((300, 300))
    adjacency[np.arange(300)[:, None], neighbours] = 1
    adjacency = np.maximum(adjacency, adjacency.T)
    root = np.sqrt(adjacency.sum(axis=1))
    dense = np.linalg.inv(np.eye(300) - 0.99 * adjacency / root / root[:, None])[:, :4]
    np.testing.assert_allclose(candidates[3], dense / np.mean(np.diag(dense)), atol=1e-6)
    labels = upper[order].astype(int)
    scores = Kernels(candidates[None]).regress(np.eye(2)[labels[:4]][None] - 0.5)[0]
    assert np.mean(scores[4:].argmax(axis=1) == labels[4:]) > 0.95


def test_loot_is_used_where_it_tells_and_left_where_it_does_not() -> None:
    """Planted: labels that only the stolen readouts tell, and labels that only the features tell."""
    own, targets = rows(3, own=24, targets=200, width=3)
    kernels = raw_kernels([own], [targets])
    generator = np.random.default_rng(4)
    sums = generator.normal(size=(1, 224, 2))
    noise = generator.normal(size=(1, 224, 4))
    for truth, which in ((sums[0].argmax(axis=1), sums), (np.concatenate([own, targets])[:, 0] > 0, noise)):
        labels = truth.astype(int)
        goals = {"labels": np.eye(2)[labels[:24]][None] - 0.5}

        def right(models: dict[str, np.ndarray], truth: np.ndarray = labels) -> float:
            return max(float(np.mean(scores[0, 24:].argmax(axis=1) == truth[24:])) for scores in models.values())

        with_loot = right(stacked(kernels, goals, which if which is noise else sums, sums if which is sums else None))
        assert with_loot > 0.8
        without = right(unaided(kernels, goals))
        assert (without < 0.65) == (which is sums)


def test_answers_and_labels_are_pooled() -> None:
    """Names say what a model explains; the mean of two is on the scale of each."""
    own, targets = rows(1)
    kernels = raw_kernels([own], [targets])
    generator = np.random.default_rng(0)
    goals = {"labels": generator.normal(size=(1, 9, 3)), "answers": 100 * generator.normal(size=(1, 9, 3))}
    found = unaided(kernels, goals)
    sources = ("labels", "answers", "labels and answers")
    assert set(found) == {f"{name}, from {source}" for name in ("kernel", "products", "graph") for source in sources}
    one, other = found["kernel, from labels"], found["kernel, from answers"]
    np.testing.assert_allclose(found["kernel, from labels and answers"], one / one.std() / 2 + other / other.std() / 2, rtol=1e-9)
    np.testing.assert_allclose(pooled([one]), one / one.std())


def test_log_odds_are_logits_up_to_a_constant() -> None:
    logits = np.random.default_rng(2).normal(size=(5, 4))
    answers = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(log_odds(answers), logits - logits.mean(axis=1, keepdims=True))
    assert np.isfinite(log_odds(np.array([[1.0, 0.0]]))).all()


def test_rows_that_tell_nothing_do_no_harm() -> None:
    """Equal rows, a single class, readouts that never change."""
    own, targets = np.ones((4, 3)), np.ones((6, 3))
    kernels = raw_kernels([own], [targets])
    goals = {"labels": np.zeros((1, 4, 2)), "answers": np.zeros((1, 4, 2))}
    for scores in (*unaided(kernels, goals).values(), *stacked(kernels, goals, np.zeros((1, 10, 2)), np.zeros((1, 10, 2))).values()):
        assert np.isfinite(scores).all()
