"""Poisoned training rows: labels that an adversary changes before the owner trains on them.

It supplies a fraction of the train rows, or may edit their labels; it changes no feature, and the owner's preprocessing was
fitted before. Which rows it takes is its choice; the strongest of them needs the honest model's answers to the train rows, which
whoever has all rows can approximate by training a model of its own. The control is the same model trained on the true labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...evaluation.service import Service
from ..registry import attack
from ..results import AttackResult, Control, Curve, Measurement, Plot

FRACTIONS = (0.05, 0.1, 0.2)
PLOT = Plot("accuracy with poisoned rows", "share of the train rows", "accuracy")
_Flip = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], np.ndarray]


def random_flips(labels: np.ndarray, answers: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """``count`` random rows get another class, all others alike likely."""
    rows = generator.permutation(len(labels))[:count]
    poisoned = labels.copy()
    poisoned[rows] = (labels[rows] + generator.integers(1, answers.shape[1], count)) % answers.shape[1]
    return poisoned


def one_class(labels: np.ndarray, answers: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Random rows of the other classes are called class 0; fewer than ``count`` where there are not enough."""
    poisoned = labels.copy()
    poisoned[generator.permutation(np.flatnonzero(labels != 0))[:count]] = 0
    return poisoned


def nearest_boundary(labels: np.ndarray, answers: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """The rows whose true class the honest model prefers by least get the class that rivals it most."""
    margins, rivals = _margins(labels, answers)
    return _relabelled(labels, np.argsort(np.abs(margins), kind="stable")[:count], rivals)


def surest_rows(labels: np.ndarray, answers: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """The rows of whose true class the honest model is surest get the class that rivals it most."""
    margins, rivals = _margins(labels, answers)
    return _relabelled(labels, np.argsort(-margins, kind="stable")[:count], rivals)


FLIPS: dict[str, _Flip] = {
    "random flips": random_flips,
    "flips to one class": one_class,
    "flips at the boundary": nearest_boundary,
    "flips of the surest rows": surest_rows,
}


def _margins(labels: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per row p(true class) − p(best other class), and that other class."""
    rows = np.arange(len(labels))
    others = answers.copy()
    others[rows, labels] = -np.inf
    rivals = others.argmax(axis=1)
    return answers[rows, labels] - answers[rows, rivals], rivals


def _relabelled(labels: np.ndarray, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    poisoned = labels.copy()
    poisoned[rows] = classes[rows]
    return poisoned


def poisoned_labels(victim: Service, flip: str, fraction: float) -> np.ndarray:
    """Labels of the train rows ``[K, rows]`` of which the ``fraction`` is changed as ``FLIPS`` says."""
    rows = victim.together("train")
    labels, count = victim.observed_labels[rows], round(fraction * rows.shape[1])
    answers = victim.model.probabilities(victim.trained, victim.encode(rows))
    number = list(FLIPS).index(flip)
    generators = [np.random.default_rng([*key, number]) for key in victim.keys("flipped labels")]
    draws = zip(labels, answers, generators, strict=True)
    return np.stack([FLIPS[flip](truth, probabilities, count, generator) for truth, probabilities, generator in draws])


def poisoned_accuracies(victim: Service, labels: np.ndarray) -> np.ndarray:
    """Accuracy on the test rows ``[V, K]`` of models trained on ``labels`` ``[V, K, train rows]``, V versions of each draw's.

    All start from the initial angles of the honest models.

    Raises:
        EvaluationFailure: a training diverged.
    """
    versions, draws = labels.shape[:2]
    inputs = np.tile(victim.encode(victim.together("train")), (versions, 1, 1))
    keys = [(victim.seed, index) for index in range(draws)] * versions
    trained = victim.model.train_many(inputs, labels.reshape(versions * draws, -1), keys)
    tests = np.tile(victim.encode(victim.test), (versions, 1, 1))
    answers = victim.model.answers(trained, tests, list(victim.keys("answers of poisoned models")) * versions)
    right = answers.argmax(axis=-1).reshape(versions, draws, -1) == victim.labels[victim.test]
    return right.mean(axis=-1)


@attack(
    "poisoning",
    goal="integrity",
    title="Data poisoning",
    adversary="supplies a share of the train rows and labels them wrongly; knows all train rows and the design",
)
def run(victim: Service) -> AttackResult:
    """Accuracy of the owner's model trained on poisoned rows, by kind of flip and fraction of the train rows."""
    tried = [(flip, fraction) for flip in FLIPS for fraction in FRACTIONS]
    found = poisoned_accuracies(victim, np.stack([poisoned_labels(victim, *one) for one in tried]))
    test = victim.labels[victim.test]
    honest = (victim.answer(victim.test, "answers of poisoned models").argmax(axis=-1) == test).mean(axis=-1)
    control = Control("trained on the true labels", honest)
    rows = victim.together("train").shape[1]
    measurements = [
        Measurement(
            f"{flip}, {fraction:.0%} of rows",
            "accuracy",
            accuracies,
            control,
            note=f"{round(fraction * rows)} of {rows} rows",
            headline=fraction == FRACTIONS[-1],
        )
        for (flip, fraction), accuracies in zip(tried, found, strict=True)
    ]
    curves = []
    for number, flip in enumerate(FLIPS):
        means = found[number * len(FRACTIONS) : (number + 1) * len(FRACTIONS)].mean(axis=1)
        curves.append(Curve(PLOT, flip, np.array([0, *FRACTIONS]), np.array([honest.mean(), *means])))
    return AttackResult(measurements, curves)
