"""What a customer can do with a service: ask queries, and train clones on the answers in several ways.

Rows of queries are held-out rows of the draw (``score``), taken in random order; a smaller budget is the beginning of a larger
one. What an adversary asks, it asks about raw features: it never sees encoded angles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from ...data import Preprocessor
from ...errors import QumosError, unknown
from ...evaluation.controls import CLONE_LAYERS, kernel, reference_qnn
from ...evaluation.service import Service
from ...model.qnn import QNN
from ...model.training import one_hot
from .cloning import Clones, bootstrap_weights, fit_preprocessors, huber_loss

Answers = Literal["labels", "probabilities", "truth"]
MEMBERS = 3
REPEATS = 3
"""Times that the filtering adversary asks the same query."""
LEAST_FILTERED = 2 * REPEATS
"""Queries that it needs: preprocessing is fitted on two rows or more."""


def most_queries(victim: Service) -> int:
    """How many queries every draw has rows for."""
    return min(len(draw.score) for draw in victim.rows)


def clone_model(victim: Service) -> QNN:
    """What an adversary clones with who knows the scenario but not the design."""
    return reference_qnn(victim.scenario, victim.n_classes, CLONE_LAYERS)


def query_rows(victim: Service, budget: int) -> np.ndarray:
    """Row numbers ``[K, budget]`` of random queries.

    Raises:
        QumosError: fewer queries than preprocessing needs, or more than there are rows.
    """
    most = most_queries(victim)
    if not 2 <= budget <= most:
        raise QumosError(f"query budget is {budget}; 2 to {most} queries are possible in scenario {victim.scenario.name}")
    orders = zip(victim.keys("order of queries"), victim.rows, strict=True)
    return np.stack([np.random.default_rng(key).permutation(draw.score)[:budget] for key, draw in orders])


def ask(victim: Service, rows: np.ndarray, answers: Answers, use: str = "queries") -> np.ndarray:
    """What a clone is to repeat on ``rows`` ``[K, R]``, as probabilities ``[K, R, classes]``.

    Args:
        victim: the service.
        rows: the queries.
        answers: ``labels`` are the service's top-1 labels and ``probabilities`` its vectors; ``truth`` are the true labels, which
            only a control has.
        use: numbers the question, see ``Service.answer``.

    Raises:
        QumosError: unknown ``answers``.
    """
    if answers not in get_args(Answers):
        raise unknown("kind of answers", answers, get_args(Answers))
    if answers == "truth":
        return one_hot(victim.labels[rows], victim.n_classes)
    given = victim.answer(rows, use)
    return given if answers == "probabilities" else one_hot(given.argmax(axis=-1), victim.n_classes)


def single(victim: Service, budget: int, answers: Answers, model: QNN | None = None) -> Clones:
    """One clone per draw, trained by cross-entropy on ``budget`` random queries; ``model`` is its structure (default: ``clone_model``).

    Raises:
        QumosError: an impossible budget, or unknown ``answers``.
        EvaluationFailure: a training diverged.
    """
    rows = query_rows(victim, budget)
    return _one(victim, rows, rows, ask(victim, rows, answers), model)


def without_service(victim: Service, budget: int, model: QNN | None = None) -> Clones:
    """The clone of an adversary whose ``budget`` rows nobody answered: they fit its preprocessing, its labelled rows train it."""
    own = victim.together("thief")
    return _one(victim, query_rows(victim, budget), own, ask(victim, own, "truth"), model)


def filtered(victim: Service, budget: int, answers: Answers) -> Clones:
    """One clone per draw, trained only on answers that hold when the query is repeated.

    A service that answers from shots answers the same query differently. The adversary spends its budget on ``REPEATS`` askings of
    each of a third as many rows, keeps those whose top-1 label never changed (all of them, should none be left), and trains on
    the mean of their answers. Repeats are queries and are counted as such.

    Raises:
        QumosError: an impossible budget.
        EvaluationFailure: a training diverged.
    """
    if budget < LEAST_FILTERED:
        raise QumosError(f"query budget is {budget}; filtering asks every query {REPEATS} times and needs {LEAST_FILTERED} at least")
    rows = query_rows(victim, budget)[:, : budget // REPEATS]
    given = np.stack([ask(victim, rows, answers, f"queries, repeat {repeat}") for repeat in range(REPEATS)])
    top = given.argmax(axis=-1)
    stable = (top == top[0]).all(axis=0)
    stable |= ~stable.any(axis=1, keepdims=True)
    return _one(victim, rows, rows, given.mean(axis=0), weights=stable / stable.sum(axis=1, keepdims=True))


def ensemble(victim: Service, rounds: Sequence[int], answers: Answers, members: int = MEMBERS) -> list[Clones]:
    """Bagged ensembles per draw, trained with the Huber loss over rounds of queries; the state after every round is returned.

    Every round trains on all that was answered so far.

    Args:
        victim: the service.
        rounds: queries spent in all at the end of each round, ascending.
        answers: see ``ask``.
        members: clones per ensemble.

    Raises:
        QumosError: an impossible budget, rounds that do not ascend, or no members.
        EvaluationFailure: a training diverged.
    """
    if members < 1 or not rounds or list(rounds) != sorted(set(rounds)):
        raise QumosError(f"an ensemble needs at least 1 member and ascending rounds, got {members} and {list(rounds)}")
    model = clone_model(victim)
    rows = query_rows(victim, rounds[-1])
    starts = [0, *rounds[:-1]]
    asked = [
        ask(victim, rows[:, start:end], answers, f"queries, round {number}")
        for number, (start, end) in enumerate(zip(starts, rounds, strict=True))
    ]
    targets = np.concatenate(asked, axis=1)
    found = []
    for number, total in enumerate(rounds):
        known = targets[:, :total]
        fitted, inputs = _encoded(victim, rows[:, :total], rows[:, :total], known)
        bags = [np.random.default_rng([*key, member, number + 1]) for member in range(members) for key in victim.keys("bags")]
        parameters = model.train_towards(
            np.tile(inputs, (members, 1, 1)),
            np.tile(known, (members, 1, 1)),
            [[*key, member] for member in range(members) for key in victim.keys("clones")],
            steps=victim.scenario.threat.steps,
            loss=huber_loss,
            weights=np.stack([bootstrap_weights(total, bag) for bag in bags]),
        )
        found.append(Clones(model, parameters, fitted))
    return found


def kernel_clone(victim: Service, rows: np.ndarray, targets: np.ndarray, asked: np.ndarray | None = None) -> np.ndarray:
    """Labels, one-hot ``[K, R, classes]``, that a kernel machine trained on the top-1 ``targets`` of ``rows`` gives to rows ``asked``.

    ``asked`` are row numbers ``[K, R]``; default those of the test split.
    """
    found = []
    for own, labels, wanted in zip(rows, targets.argmax(axis=-1), victim.test if asked is None else asked, strict=True):
        one_class = len(np.unique(labels)) == 1
        found.append(np.full(len(wanted), labels[0]) if one_class else kernel(victim.features[own], labels, victim.features[wanted]))
    return one_hot(np.stack(found), victim.n_classes)


def _one(
    victim: Service,
    seen: np.ndarray,
    rows: np.ndarray,
    targets: np.ndarray,
    model: QNN | None = None,
    weights: np.ndarray | None = None,
) -> Clones:
    """One clone per draw, trained on ``rows``; its preprocessing is fitted on ``seen``."""
    model = model or clone_model(victim)
    fitted, inputs = _encoded(victim, seen, rows, targets)
    steps = victim.scenario.threat.steps
    return Clones(model, model.train_towards(inputs, targets, victim.keys("clones"), steps=steps, weights=weights), fitted)


def _encoded(victim: Service, seen: np.ndarray, rows: np.ndarray, targets: np.ndarray) -> tuple[tuple[Preprocessor, ...], np.ndarray]:
    """The adversary's preprocessing fitted on ``seen``, and its angles ``[K, R, n_qubits]`` of ``rows``, to which ``targets`` belong."""
    labels = targets if seen is rows else None
    fitted = fit_preprocessors(victim.features[seen], labels, victim.scenario.data, victim.design.n_qubits)
    return fitted, np.stack([one.transform(victim.features[own]) for one, own in zip(fitted, rows, strict=True)])
