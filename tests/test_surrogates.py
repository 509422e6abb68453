"""Closed-form models of adversaries: against scikit-learn, dense algebra and planted truths."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from qumos_env.evaluation.choice import likeliest
from qumos_env.evaluation.surrogates.families import FAMILIES, angle_kernels, components, smoothed, smoother
from qumos_env.evaluation.surrogates.interactions import Products, contrasts
from qumos_env.evaluation.surrogates.models import LABELS, Ground, label_goal, log_odds, pooled, stacked, unaided, uses_answers
from qumos_env.evaluation.surrogates.regression import RIDGES, Kernels, inner_products


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
    np.testing.assert_allclose(kernels.regress(goal[None])[0, 0], best.predict(values + size), atol=1e-8)


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
    np.testing.assert_allclose(kernels.regress(goal[None], offset=known[None])[0, 0], expected, atol=0.05)


def test_a_known_part_of_the_wrong_sign_is_left_out() -> None:
    kernels, _ = one_kernel(0)
    known = np.random.default_rng(3).normal(size=(1, 49, 3))
    goal = -known[:, :9]
    np.testing.assert_allclose(kernels.regress(goal, offset=known), kernels.regress(goal), atol=1e-9)


def test_draws_do_not_mix() -> None:
    """Many at once are each by itself."""
    pairs = [rows(seed) for seed in range(3)]
    together = Ground.of([own for own, _ in pairs], [targets for _, targets in pairs])
    generator = np.random.default_rng(5)
    goal, known, readouts, rest = (generator.normal(size=shape) for shape in ((3, 9, 4), (3, 49, 4), (3, 49, 6), (3, 49, 2)))
    all_of_them = stacked(together, {"labels": goal}, readouts, known, rest)
    for draw, (own, targets) in enumerate(pairs):
        only = slice(draw, draw + 1)
        alone = stacked(Ground.of([own], [targets]), {"labels": goal[only]}, readouts[only], known[only], rest[only])
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
    scores = unaided(Ground.of([points[:16]], [points[16:]]), {"labels": np.eye(2)[labels[:16]][None] - 0.5})

    def right(name: str) -> float:
        return float(np.mean(scores[name][0, 16:].argmax(axis=1) == labels[16:]))

    assert right("products 3, from labels") > 0.95 and right("interactions 4, from labels") > 0.95
    assert max(right(f"kernel {number}, from labels") for number in range(1, 9)) < 0.9


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
    scores = Kernels(candidates[None]).regress(np.eye(2)[labels[:4]][None] - 0.5)[:, 0]
    assert max(np.mean(one[4:].argmax(axis=1) == labels[4:]) for one in scores) > 0.95


def test_loot_is_used_where_it_tells_and_left_where_it_does_not() -> None:
    """Planted: labels that only the stolen readouts tell, and labels that only the features tell."""
    own, targets = rows(3, own=24, targets=200, width=3)
    ground = Ground.of([own], [targets])
    generator = np.random.default_rng(4)
    sums = generator.normal(size=(1, 224, 2))
    noise = generator.normal(size=(1, 224, 4))
    nothing = np.zeros((1, 224, 0))
    for truth, loot in ((sums[0].argmax(axis=1), True), (np.concatenate([own, targets])[:, 0] > 0, False)):
        labels = truth.astype(int)
        goals = {"labels": np.eye(2)[labels[:24]][None] - 0.5}

        def right(scores: np.ndarray, truth: np.ndarray = labels) -> float:
            return float(np.mean(scores[0, 24:].argmax(axis=1) == truth[24:]))

        found = stacked(ground, goals, sums if loot else noise, sums if loot else None, nothing)
        assert right(found["loot, readouts 1, from labels"]) > 0.8 if loot else right(found["kernel, readouts 1, from labels"]) > 0.8
        without = {name: right(scores) for name, scores in unaided(ground, goals).items()}
        assert (np.median(list(without.values())) < 0.6) == loot


def test_what_is_left_depends_on_what_is_not_held() -> None:
    """Planted: logits that are a known part plus a product of two angles elsewhere, which few rows tell once the part is taken off."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 3))
    angles = generator.uniform(0, np.pi, (1, 300, 4))
    sums = 2 * generator.normal(size=(1, 300, 1)) * np.array([1.0, -1.0])
    logits = sums + 3 * (np.cos(angles[..., :1]) * np.cos(angles[..., 1:2])) * np.array([1.0, -1.0])
    found = stacked(Ground.of([features[:16]], [features[16:]]), {"answers": logits[:, :16]}, sums, sums, angles)

    def right(name: str) -> float:
        return float(np.mean(found[f"{name}, from answers"][0, 16:].argmax(axis=1) == logits[0, 16:].argmax(axis=1)))

    assert right("rest, 1 × sums 1") > right("kernel, 1 × sums 1") + 0.05
    assert right("rest, 1 × sums 1") > 0.9


def test_angle_kernels_are_fourier_series_and_interactions() -> None:
    """Oracle: the features written out."""
    angles = np.random.default_rng(1).uniform(0, 3, (2, 7, 3))
    found = angle_kernels(angles, 4)
    for draw in range(2):
        one = angles[draw]
        series = np.ones((7, 1))
        for qubit in range(3):
            basis = np.stack([np.ones(7), np.cos(one[:, qubit]), np.sin(one[:, qubit])], axis=1) / np.sqrt([1, 1, 1])
            # (1 + cos(a − b))/2 = (1 + cos a cos b + sin a sin b)/2
            series = (series[:, :, None] * basis[:, None] / np.sqrt(2)).reshape(7, -1)
        np.testing.assert_allclose(found[draw, 0], series @ series[:4].T, atol=1e-9)
        plain = StandardScaler().fit_transform(one)
        pairs = np.stack([plain[:, a] * plain[:, b] for a, b in combinations(range(3), 2)], axis=1)
        expected = pairs @ pairs[:4].T
        np.testing.assert_allclose(found[draw, 4], expected / np.mean(np.diag(expected[:4])), atol=1e-9)
        both = plain @ plain[:4].T + pairs @ pairs[:4].T
        np.testing.assert_allclose(found[draw, 3], both / np.mean(np.diag(both[:4])), atol=1e-9)


def test_the_latent_family_works_on_whitened_components() -> None:
    """Four columns that mix two hidden ones: the components are these, up to a rotation, and their squares tell a ring."""
    generator = np.random.default_rng(2)
    hidden = generator.normal(size=(200, 2))
    mixed = hidden @ generator.uniform(size=(2, 4))
    found = components(mixed)
    assert found.shape == (200, 2)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(2), atol=1e-9)
    labels = (np.linalg.norm(found, axis=1) > 1.18).astype(int)
    own = np.concatenate([np.flatnonzero(labels == label)[:8] for label in (0, 1)])
    order = np.concatenate([own, np.setdiff1d(np.arange(200), own)])
    scores = unaided(Ground.of([mixed[own]], [mixed[order[16:]]]), {"labels": np.eye(2)[labels[own]][None] - 0.5})
    assert np.mean(scores["latent 3, from labels"][0, 16:].argmax(axis=1) == labels[order[16:]]) > 0.85


def test_few_rows_tell_a_parity_from_all_others() -> None:
    """Ten labels of a parity of five of eight features; no kernel of the raw features comes near."""
    generator = np.random.default_rng(5)
    points = generator.uniform(0.2, 1, (210, 8)) * generator.choice([-1.0, 1.0], (210, 8))
    labels = (points[:, [0, 2, 3, 5, 7]].prod(axis=1) > 0).astype(int)
    found = unaided(Ground.of([points[:12]], [points[12:]]), {"labels": np.eye(2)[labels[:12]][None] - 0.5})
    right = {name: np.mean(scores[0, 12:].argmax(axis=1) == labels[12:]) for name, scores in found.items()}
    assert right["single products of signs, from labels"] > 0.9
    assert max(value for name, value in right.items() if name.startswith("kernel")) < 0.75


def test_a_products_evidence_is_that_of_a_gaussian_model() -> None:
    """Oracle: the posterior over all sets by a loop; more of it where the loot says the same."""
    generator = np.random.default_rng(8)
    points = generator.normal(size=(40, 3))
    products = Products.of([points])
    sets = [chosen for size in (1, 2, 3) for chosen in combinations(range(3), size)]
    goal = generator.normal(size=(6, 2))
    goal -= goal.mean(axis=1, keepdims=True)
    standard = StandardScaler().fit_transform(points)
    evidence = []
    for sign in (1, -1):
        for chosen in sets:
            product = np.sign(standard[:, list(chosen)]).prod(axis=1)
            contrast = goal[:, 0] - goal[:, 1]
            rho = max(0, sign * contrast @ product[:6] / np.linalg.norm(contrast) / np.linalg.norm(product[:6]))
            evidence.append((0.5 ** len(chosen) * (1 - min(rho, 0.999) ** 2) ** -3, sign * product))
    total = sum(weight for weight, _ in evidence)
    expected = sum(weight * product for weight, product in evidence) / total
    found = products.scores("signs", products.evidence("signs", goal[None]))
    np.testing.assert_allclose(found[0], np.stack([expected, -expected], axis=1), atol=1e-9)
    planted = np.sign(standard[:, [0]] * standard[:, [2]]) * np.array([1.0, -1.0])
    loot = products.evidence("signs", planted[None], centred=True)
    with_loot = products.scores("signs", products.evidence("signs", goal[None]) + 0.5 * loot)[0, :, 0]
    assert np.corrcoef(with_loot, planted[:, 0])[0, 1] > 0.99


def test_contrasts_tell_all_classes_apart() -> None:
    for classes in (2, 3, 4, 5):
        found = np.stack(contrasts(classes))
        assert np.linalg.matrix_rank(np.concatenate([found, np.ones((1, classes))])) == classes
        assert {abs(value) for value in found.ravel()} == {1.0}


def test_answers_and_labels_are_pooled() -> None:
    """Names say what a model explains; the mean of two is on the scale of each."""
    own, targets = rows(1)
    ground = Ground.of([own], [targets])
    generator = np.random.default_rng(0)
    goals = {"labels": generator.normal(size=(1, 9, 3)), "answers": 100 * generator.normal(size=(1, 9, 3))}
    found = unaided(ground, goals)
    sources = ("labels", "answers", "labels and answers")
    for family in ("kernel", "latent", "products", "interactions", "graph"):
        assert {f"{family} 1, from {source}" for source in sources} <= set(found)
    assert {name for name in found if not uses_answers(name)} == {name for name in found if name.endswith("from labels")}
    one, other = found["kernel 2, from labels"], found["kernel 2, from answers"]
    np.testing.assert_allclose(found["kernel 2, from labels and answers"], one / one.std() / 2 + other / other.std() / 2, rtol=1e-9)
    np.testing.assert_allclose(pooled([one]), one / one.std())


def test_log_odds_are_logits_up_to_a_constant() -> None:
    logits = np.random.default_rng(2).normal(size=(5, 4))
    answers = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(log_odds(answers), logits - logits.mean(axis=1, keepdims=True))
    assert np.isfinite(log_odds(np.array([[1.0, 0.0]]))).all()


def test_readouts_are_features_more() -> None:
    """Oracle: ridge regression with the readouts beside the kernel, for the weight that predicts left-out rows best."""
    kernels, values = one_kernel(3)
    generator = np.random.default_rng(9)
    readouts, goal = generator.normal(size=(49, 2)), generator.normal(size=(9, 3))
    products = inner_products(readouts[None], 9)
    centred = readouts - readouts.mean(axis=0)
    np.testing.assert_allclose(products[0], centred @ centred[:9].T / np.mean(np.sum(centred**2, axis=1)), atol=1e-12)
    errors = {}
    for weight in (0.5, 2.0, 8.0):
        together = values + weight * products[0]
        for ridge in RIDGES:
            errors[weight, ridge] = np.mean((left_out(together, goal, ridge) - goal) ** 2)
    weight, ridge = min(errors, key=lambda pair: errors[pair])
    together = values + weight * products[0]
    size = np.mean(np.diag(together[:9]))
    best = KernelRidge(alpha=ridge * size, kernel="precomputed").fit(together[:9] + size, goal)
    found = Kernels(kernels.values, products).regress(goal[None])
    np.testing.assert_allclose(found[0, 0], best.predict(together + size), atol=1e-8)


def test_rows_that_tell_nothing_do_no_harm() -> None:
    """Equal rows, a single class, readouts that never change, a part that holds everything."""
    own, targets = np.ones((4, 3)), np.ones((6, 3))
    ground = Ground.of([own], [targets])
    goals = {"labels": np.zeros((1, 4, 2)), "answers": np.zeros((1, 4, 2))}
    still = np.zeros((1, 10, 2))
    for rest in (np.zeros((1, 10, 0)), np.ones((1, 10, 1)), np.ones((1, 10, 3))):
        for scores in (*unaided(ground, goals).values(), *stacked(ground, goals, still, still, rest).values()):
            assert np.isfinite(scores).all()


@pytest.mark.parametrize("rows", [60, 1700])
def test_a_smoother_is_kernel_ridge_regression(rows: int) -> None:
    """Oracle: scikit-learn, fitted on the rows that the smoother rests on."""
    generator = np.random.default_rng(rows)
    features, values = generator.normal(size=(rows, 3)) * [1, 10, 0.1], generator.normal(size=(rows, 2))
    scaled, chosen = StandardScaler().fit_transform(features), smoothed(rows)
    size = 0.7 * np.median(cdist(scaled[chosen], scaled[chosen]))
    oracle = KernelRidge(alpha=2.0, kernel="rbf", gamma=0.5 / size**2).fit(scaled[chosen], values[chosen]).predict(scaled)
    np.testing.assert_allclose(smoother(features, 0.7, 2.0) @ values[chosen], oracle, atol=1e-8)
    assert len(values[chosen]) <= 800


def shifted_circles(rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Rows on two winding curves that lie close beside each other, the class last."""
    generator = np.random.default_rng(1)
    turn, labels = generator.uniform(0, 2 * np.pi, rows), generator.integers(2, size=rows)
    labels[:6] = [0, 0, 0, 1, 1, 1]
    points = np.stack([np.cos(turn), np.sin(turn), np.cos(2 * turn), np.sin(2 * turn)], axis=1)
    return points + 0.1 * labels[:, None] * [1, -1, 1, 1] + 0.01 * generator.normal(size=points.shape), labels


def test_details_tell_shapes_apart_that_are_shifted_a_little() -> None:
    """From six labels, where the kernels on features themselves guess."""
    points, labels = shifted_circles()
    goals = {LABELS: label_goal(labels[None, :6], 2)}
    found = unaided(Ground.of([points[:6]], [points[6:]]), goals)
    best = {
        family: max(np.mean(scores[0, 6:].argmax(axis=-1) == labels[6:]) for name, scores in found.items() if name.startswith(family))
        for family in ("details", "kernel")
    }
    assert best["details"] > 0.9 and best["kernel"] < 0.75


def test_details_of_stolen_sums_need_no_labels() -> None:
    """A part that says the class plus something slow, which the rest takes away, says the class."""
    points, labels = shifted_circles()
    slow = 3 * points[:, 0] - 2 * points[:, 1]
    sums = np.stack([slow - labels, labels - slow], axis=-1)[None]
    ground = Ground.of([points[:6]], [points[6:]])
    goals = {LABELS: np.zeros((1, 6, 2))}
    found = stacked(ground, goals, sums[..., :1], sums, np.zeros((1, 300, 0)))["details of the sums"]
    assert np.mean(sums[0].argmax(axis=-1) == labels) < 0.8 < np.mean(found[0].argmax(axis=-1) == labels)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_likeliest_class_is_that_of_argmax(classes: int) -> None:
    """Ties included: the first of equals."""
    scores = np.random.default_rng(classes).integers(0, 4, size=(5, 6, 40, classes)).astype(float)
    np.testing.assert_array_equal(likeliest(scores), scores.argmax(axis=-1))
