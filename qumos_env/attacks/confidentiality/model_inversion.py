"""Model inversion (Fredrikson et al., 2015): inputs reconstructed from the answers of the service.

It looks for a typical input of a class, and for the input behind an answer. What is recovered may be what any row of the class looks
like, so every measurement stands beside a guess from the adversary's own rows.
"""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from ...evaluation.service import Service
from ..registry import attack
from ..results import AttackResult, Control, Criterion, Measurement
from .black_box import most_queries, query_rows
from .class_means import class_means

QUERIES = 150
POPULATION, ELITE, ITERATIONS = 32, 8, 15
LEAK = Criterion("lower", 0.05)
"""A feature known better by a twentieth of its standard deviation tells something."""

@attack(
    "model-inversion",
    goal="confidentiality",
    title="Model inversion",
    adversary="is a customer with unlabelled rows: sends them and rows of its own making as queries, and sees the probabilities",
)
def run(victim: Service) -> AttackResult:
    """Typical inputs of the classes, and inputs behind answers. Errors are root mean squares over raw features, in standard
    deviations of each over the whole data set."""
    rows = query_rows(victim, min(QUERIES, most_queries(victim)))
    answers = victim.answer(rows, "queries")
    spread = victim.features.std(axis=0)
    varies = spread > 0

    def distance(found: np.ndarray, truth: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square((found - truth) / np.where(varies, spread, 1.0))[..., varies])))

    measurements = []

    def measured(case: str, quantity: str, values: list[float], guessed: list[float], guess: str = "", headline: bool = False) -> None:
        control = Control(f"guess: mean of own rows{guess}", np.array(guessed))
        criterion = LEAK if headline else None
        measurements.append(Measurement(case, quantity, np.array(values), control, headline=headline, criterion=criterion))

    own = victim.features[rows]
    wanted = [class_means(victim.features[draw.train], victim.labels[draw.train], victim.n_classes) for draw in victim.rows]
    middle = own.mean(axis=1)
    blank = [distance(mean, target) for mean, target in zip(middle, wanted, strict=True)]
    searched = search_representatives(victim, own)
    surest = np.stack([mine[given.argmax(axis=0)] for mine, given in zip(own, answers, strict=True)])
    shares = answers / answers.sum(axis=1, keepdims=True)
    weighted = np.einsum("krc,krf->kcf", shares, own)
    ways = {"searched": searched, "own row answered surest": surest, "own rows weighted by answers": weighted}
    for way, found in ways.items():
        reached = [distance(one, target) for one, target in zip(found, wanted, strict=True)]
        measured(f"typical input of a class, {way}", "error (sd)", reached, blank, headline=found is weighted)
    confidence, before = (_class_probabilities(victim, one) for one in (searched, np.repeat(middle[:, None], victim.n_classes, axis=1)))
    measured("typical input of a class, searched", "its probability", list(confidence), list(before))

    truth = victim.features[victim.test]
    given = victim.answer(victim.test, "test rows")
    by_mean = [distance(mean, true) for mean, true in zip(middle, truth, strict=True)]
    labelled = [
        class_means(mine, seen.argmax(axis=-1), victim.n_classes)[one.argmax(axis=-1)]
        for mine, seen, one in zip(own, answers, given, strict=True)
    ]
    by_label = [distance(found, true) for found, true in zip(labelled, truth, strict=True)]
    inverted = [invert_answers(seen, mine, one) for seen, mine, one in zip(answers, own, given, strict=True)]
    by_vector = [distance(found, true) for found, true in zip(inverted, truth, strict=True)]
    measured("input behind a label", "error (sd)", by_label, by_mean)
    measured("input behind probabilities", "error (sd)", by_vector, by_label, " answered with the same label", headline=True)
    return AttackResult(measurements)


def invert_answers(answers: np.ndarray, features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Raw features ``[targets, f]`` that a ridge regression on squares and products of log-probabilities reads off ``targets``.

    Args:
        answers: to the adversary's own rows, ``[rows, classes]``.
        features: of these rows, ``[rows, f]``; the ridge is chosen on them for every feature, leaving one out.
        targets: the answers whose inputs are wanted, ``[targets, classes]``.
    """
    ridge = RidgeCV(np.logspace(-1, 5, 13), alpha_per_target=True)
    regressor = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler(), ridge)
    return regressor.fit(_evidence(answers), features).predict(_evidence(targets))


def _evidence(answers: np.ndarray) -> np.ndarray:
    logs = np.log(np.maximum(answers, 1e-9))
    return logs - logs.mean(axis=-1, keepdims=True)


def search_representatives(victim: Service, own: np.ndarray) -> np.ndarray:
    """For every class the raw input ``[K, classes, f]`` that maximises log-probability plus log-density of ``own`` ``[K, rows, f]``.

    The density is a Gaussian in as many principal components as the model has qubits; without it the search ends in a corner that
    resembles no row. The search is the cross-entropy method (Rubinstein, 1999), on queries alone.
    """
    size = min(victim.design.n_qubits, own.shape[1] - 1, own.shape[2])
    spaces = [PCA(size, whiten=True).fit(rows) for rows in own]
    generators = [np.random.default_rng(key) for key in victim.keys("search of inputs")]
    mean = np.zeros((len(own), victim.n_classes, size))
    spread = np.ones_like(mean)
    for step in range(ITERATIONS):
        noise = np.stack([generator.standard_normal((victim.n_classes, POPULATION, size)) for generator in generators])
        tried = mean[:, :, None] + spread[:, :, None] * noise
        raw = np.stack([space.inverse_transform(one.reshape(-1, size)) for space, one in zip(spaces, tried, strict=True)])
        logs = np.log(np.maximum(victim.answer_features(raw, f"search of inputs, step {step}"), 1e-9)).reshape(*tried.shape[:3], -1)
        value = np.einsum("kcpc->kcp", logs) - np.square(tried).sum(axis=-1) / 2
        best = np.argsort(-value, axis=-1)[:, :, :ELITE, None]
        elite = np.take_along_axis(tried, best, axis=2)
        mean, spread = elite.mean(axis=2), elite.std(axis=2) + 1e-3
    return np.stack([space.inverse_transform(one) for space, one in zip(spaces, mean, strict=True)])


def _class_probabilities(victim: Service, features: np.ndarray) -> np.ndarray:
    """Mean over the classes of the exact probability of class c for input c of ``features`` ``[K, classes, f]``."""
    inputs = np.stack([fitted.transform(rows) for fitted, rows in zip(victim.preprocessors, features, strict=True)])
    return np.einsum("kcc->kc", victim.model.probabilities(victim.trained, inputs)).mean(axis=1)
