"""Inversion: inputs reconstructed from training gradients, or from the answers of the service.

*Gradient inversion* is the attack of whoever overhears a training: the gradient of a batch by the angles, together with circuit,
parameters and labels, has more entries than the batch has unknown inputs. The gradients are exact here, without shots, and taken
at the first step of a training. So this is the most that can leak: of one row of eight angles all are to be expected. Rows of one
label in a batch are exchangeable, and an answer in either order counts; what another symmetry of a circuit hides (a feature that no
gate joins to a trained qubit, say) stays hidden, and counts as an error.

*Model inversion* (Fredrikson et al., 2015) has the service's answers only. It looks for a typical input of a class, and for the input
behind an answer. What is recovered may be what any row of the class looks like, so every figure stands beside a guess from the
adversary's own rows.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from ...evaluation.service import Service
from ...model.stack import DENSE_MAX_QUBITS
from ...model.training import Parameters, one_hot
from ..registry import attack
from ..results import AttackResult, Figure
from .black_box import most_queries, query_rows
from .gradient_matching import GradientMap, invert

GRADIENT, MODEL = "gradient-inversion", "model-inversion"
BATCHES = 4
"""Batches attacked per model."""
BATCH_ROWS = (1, 2)
MODELS = 3
"""Models attacked; one where a fragment is too wide for dense simulation."""
RESTARTS = 4
SPREAD = 0.5
"""Standard deviation in radians of the starts about the mean of the adversary's rows of the class."""
TOLERANCE = 0.1
"""Radians within which every angle of a row must lie for it to count as reconstructed."""
QUERIES = 150
POPULATION, ELITE, ITERATIONS = 32, 8, 15

_BATCH, _STARTS, _ANSWERS, _TEST, _SEARCH = 0x17F0, 0x17F1, 0x17F2, 0x17F3, 0x1800


def matched_errors(found: np.ndarray, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Absolute errors ``[rows, n_qubits]`` of ``found`` rows, each against the row of ``inputs`` of its label that fits best."""
    distance = np.abs(found[:, None] - inputs[None]).mean(axis=-1)
    cost = np.where(labels[:, None] == labels[None], distance, 1e6)
    mine, other = linear_sum_assignment(cost)
    return np.abs(found[mine] - inputs[other])


def class_means(values: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Mean of the ``values`` ``[rows, f]`` of every class, ``[n_classes, f]``; that of all rows for a class without any."""
    held = [values[labels == label] for label in range(n_classes)]
    return np.stack([(rows if len(rows) else values).mean(axis=0) for rows in held])


@attack(
    GRADIENT,
    "confidentiality",
    "eavesdrops on the training: sees the exact gradient of a batch by all angles at the first step, and knows circuit, parameters, "
    "labels, and the encoded angles of a few labelled rows of its own",
)
def run_gradient(victim: Service) -> AttackResult:
    """Encoded angles of training rows from the gradients of batches of one and two rows, beside guesses from the adversary's rows."""
    wide = max(len(engine.qubits) for engine in victim.model.stack.engines) > DENSE_MAX_QUBITS
    attacked = min(len(victim.rows), 1 if wide else MODELS)
    note = f"{attacked} of {len(victim.rows)} models attacked" if attacked < len(victim.rows) else ""
    own = victim.together("thief")
    own_angles, own_labels = victim.encode(own), victim.labels[own]
    guesses = np.stack([class_means(*one, victim.n_classes) for one in zip(own_angles, own_labels, strict=True)])
    figures = []

    def figure(name: str, values: np.ndarray, controls: np.ndarray) -> None:
        padded = np.full((2, len(victim.rows)), np.nan)
        padded[:, :attacked] = values, controls
        figures.append(Figure("confidentiality", GRADIENT, name, padded[0], padded[1], "guess: mean of own rows of the class", note=note))

    for size in BATCH_ROWS:
        inputs, labels = _batches(victim, attacked, size)
        guess = np.stack([means[one] for means, one in zip(guesses, labels, strict=False)])
        found = _from_gradients(victim, inputs, labels, guess)
        batches = range(BATCHES)
        errors = np.stack([[matched_errors(found[k, g], inputs[k, g], labels[k, g]) for g in batches] for k in range(attacked)])
        guessed = np.abs(guess - inputs)
        figure(f"batch of {size}: mean error (rad)", errors.mean(axis=(1, 2, 3)), guessed.mean(axis=(1, 2, 3)))
        figure(
            f"batch of {size}: rows within {TOLERANCE} rad",
            (errors.max(axis=-1) <= TOLERANCE).mean(axis=(1, 2)),
            (guessed.max(axis=-1) <= TOLERANCE).mean(axis=(1, 2)),
        )
        if size == BATCH_ROWS[0]:
            middle = own_angles[:attacked].mean(axis=1)[:, None, None]
            figure("guess without a label: mean error (rad)", np.abs(middle - inputs).mean(axis=(1, 2, 3)), guessed.mean(axis=(1, 2, 3)))
    return AttackResult(figures)


def _batches(victim: Service, attacked: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Encoded training rows ``[attacked, BATCHES, size, n_qubits]`` and their labels."""
    train = victim.together("train")
    count = BATCHES * size
    generators = [np.random.default_rng(key) for key in victim.keys(_BATCH)]
    rows = np.stack([generator.choice(one, count, len(one) < count) for generator, one in zip(generators, train, strict=True)])
    shape = (attacked, BATCHES, size)
    return victim.encode(rows)[:attacked].reshape(*shape, -1), victim.labels[rows][:attacked].reshape(shape)


def _from_gradients(victim: Service, inputs: np.ndarray, labels: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """What the eavesdropper makes of the gradients of batches ``[D, BATCHES, rows, n_qubits]``, starting near its ``guess``."""
    models, batches, rows, width = inputs.shape
    gradient = GradientMap(victim.model)
    start = Parameters.stack([victim.model.initial((victim.seed, index)) for index in range(models)])
    targets = one_hot(labels, victim.n_classes)
    seen = gradient.gradients(start, inputs.reshape(models, -1, width), targets.reshape(models, batches * rows, -1))
    observed = seen.reshape(models, batches, rows, -1).mean(axis=2)
    low, high = victim.scenario.data.angle_range
    noise = [np.random.default_rng(key).normal(0, SPREAD, (RESTARTS, *guess.shape[1:])) for key in victim.keys(_STARTS)[:models]]
    starts = np.clip(guess + np.stack(noise, axis=1), low, high)
    return invert(gradient, start, observed, targets, starts, (low, high)).inputs


@attack(
    MODEL,
    "confidentiality",
    "is a customer with unlabelled rows: sends them and rows of its own making as queries, and sees the probabilities",
)
def run_model(victim: Service) -> AttackResult:
    """Typical inputs of the classes, and inputs behind answers. Errors are root mean squares over raw features, in standard
    deviations of each over the whole data set."""
    rows = query_rows(victim, min(QUERIES, most_queries(victim)))
    answers = victim.answer(rows, _ANSWERS)
    spread = victim.features.std(axis=0)
    varies = spread > 0

    def distance(found: np.ndarray, truth: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square((found - truth) / np.where(varies, spread, 1.0))[..., varies])))

    figures = []

    def figure(name: str, values: list[float], controls: list[float], control: str) -> None:
        figures.append(Figure("confidentiality", MODEL, name, np.array(values), np.array(controls), control))

    own = victim.features[rows]
    wanted = [class_means(victim.features[draw.train], victim.labels[draw.train], victim.n_classes) for draw in victim.rows]
    middle = own.mean(axis=1)
    blank = [distance(mean, target) for mean, target in zip(middle, wanted, strict=True)]
    searched = search_representatives(victim, own)
    surest = np.stack([mine[given.argmax(axis=0)] for mine, given in zip(own, answers, strict=True)])
    shares = answers / answers.sum(axis=1, keepdims=True)
    weighted = np.einsum("krc,krf->kcf", shares, own)
    for name, found in (("searched", searched), ("own row answered surest", surest), ("own rows weighted by answers", weighted)):
        reached = [distance(one, target) for one, target in zip(found, wanted, strict=True)]
        figure(f"typical input of a class, {name}: error (sd)", reached, blank, "guess: mean of own rows")
    confidence, before = (_class_probabilities(victim, one) for one in (searched, np.repeat(middle[:, None], victim.n_classes, axis=1)))
    figure("typical input of a class, searched: its probability", list(confidence), list(before), "guess: mean of own rows")

    truth = victim.features[victim.test]
    given = victim.answer(victim.test, _TEST)
    by_mean = [distance(mean, true) for mean, true in zip(middle, truth, strict=True)]
    labelled = [
        class_means(mine, seen.argmax(axis=-1), victim.n_classes)[one.argmax(axis=-1)]
        for mine, seen, one in zip(own, answers, given, strict=True)
    ]
    by_label = [distance(found, true) for found, true in zip(labelled, truth, strict=True)]
    inverted = [invert_answers(seen, mine, one) for seen, mine, one in zip(answers, own, given, strict=True)]
    by_vector = [distance(found, true) for found, true in zip(inverted, truth, strict=True)]
    figure("input behind a label: error (sd)", by_label, by_mean, "guess: mean of own rows")
    figure("input behind probabilities: error (sd)", by_vector, by_label, "guess: mean of own rows answered with the same label")
    return AttackResult(figures)


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
    generators = [np.random.default_rng(key) for key in victim.keys(_SEARCH)]
    mean = np.zeros((len(own), victim.n_classes, size))
    spread = np.ones_like(mean)
    for step in range(ITERATIONS):
        noise = np.stack([generator.standard_normal((victim.n_classes, POPULATION, size)) for generator in generators])
        tried = mean[:, :, None] + spread[:, :, None] * noise
        raw = np.stack([space.inverse_transform(one.reshape(-1, size)) for space, one in zip(spaces, tried, strict=True)])
        logs = np.log(np.maximum(_query(victim, raw, _SEARCH + step), 1e-9)).reshape(*tried.shape[:3], -1)
        value = np.einsum("kcpc->kcp", logs) - np.square(tried).sum(axis=-1) / 2
        best = np.argsort(-value, axis=-1)[:, :, :ELITE, None]
        elite = np.take_along_axis(tried, best, axis=2)
        mean, spread = elite.mean(axis=2), elite.std(axis=2) + 1e-3
    return np.stack([space.inverse_transform(one) for space, one in zip(spaces, mean, strict=True)])


def _query(victim: Service, features: np.ndarray, use: int) -> np.ndarray:
    """The service's answers ``[K, R, classes]`` to raw ``features`` ``[K, R, f]`` that are rows of no data set."""
    inputs = np.stack([fitted.transform(rows) for fitted, rows in zip(victim.preprocessors, features, strict=True)])
    return victim.model.answers(victim.trained, inputs, victim.keys(use))


def _class_probabilities(victim: Service, features: np.ndarray) -> np.ndarray:
    """Mean over the classes of the exact probability of class c for input c of ``features`` ``[K, classes, f]``."""
    inputs = np.stack([fitted.transform(rows) for fitted, rows in zip(victim.preprocessors, features, strict=True)])
    return np.einsum("kcc->kc", victim.model.probabilities(victim.trained, inputs)).mean(axis=1)
