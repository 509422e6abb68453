"""Queries against loot: how many answers replace a break-in, and so what a quota on queries would have to be.

Thief and customer have the same few labelled rows and get the same answers; the thief also holds the parts of one provider, or of a
coalition, with their angles and the encoding of every query. Both fit the closed-form models of ``qumos_env.evaluation.surrogates``, and
the thief, who may leave its loot, those without it too. Provider and model are chosen on the tuning rows, among those of fewer queries
too: nobody has to use an answer. Rows that were asked are explained by what was told of them, own rows that were not by their labels.

*Real* queries are the own rows first and then held-out rows, *synthetic* ones are drawn from a Gaussian that is fitted to the own rows.
Loot and answers *meet* at the least number of queries from which on the loot adds no more than matters to the mean of the models. It is
one figure for all of them, for the gain of a single model is within the noise of its test rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ...design.encodings import encoding_called
from ...errors import QumosError, unknown
from ...evaluation.choice import Accuracies, strongest
from ...evaluation.interception import ThiefRows, fit_encoding
from ...evaluation.queries import synthetic_rows
from ...evaluation.service import Service
from ...evaluation.surrogates.models import ANSWERS, LABELS, Ground, as_told, label_goal, log_odds, stacked, unaided, uses_answers
from ...evaluation.thief import Thief
from ..registry import attack
from ..results import RELEVANT, AttackResult, Control, Criterion, Curve, Measurement, Plot
from .black_box import most_queries, query_rows
from .stealing import Scene
from .theft import coalitions

Kind = Literal["real", "synthetic"]
Told = Literal["probabilities", "labels"]
BUDGETS = (6, 12, 25, 50, 100, 200)
MOST_SYNTHETIC = 200
_LEAST = 2  # queries, from which a thief fits the encoding


@dataclass(frozen=True, eq=False)
class Answered:
    """The rows that an adversary fits its models to: own ones, and queries.

    Attributes:
        raw: features ``[K, rows, f]``.
        asked: bool ``[rows]``, which of them were queries.
        encoded: the queries as the service encodes them, ``[K, queries, n_qubits]``.
        answers: class probabilities of the queries, ``[K, queries, classes]``.
        labels: of all rows, ``[K, rows]``: true ones of own rows, else the likeliest class of the answer.
    """

    raw: np.ndarray
    asked: np.ndarray
    encoded: np.ndarray
    answers: np.ndarray
    labels: np.ndarray

    @property
    def goals(self) -> dict[str, np.ndarray]:
        """What models explain of the rows, ``[K, rows, classes]``: labels; and log-odds of answers, with labels in their size elsewhere."""
        labels = label_goal(self.labels, self.answers.shape[-1])
        told = log_odds(self.answers)
        sizes = [np.sqrt(np.mean(goal**2, axis=(1, 2), keepdims=True)) for goal in (told, labels)]
        answers = labels * (sizes[0] / sizes[1])
        answers[:, self.asked] = told
        return {LABELS: labels, ANSWERS: answers}


def ask(scene: Scene, count: int, kind: Kind) -> Answered:
    """``count`` queries; fewer are the beginning of more.

    Raises:
        QumosError: no such kind of rows; fewer than 2 queries, or more than there are rows.
    """
    victim = scene.victim
    if kind not in get_args(Kind):
        raise unknown("kind of queries", kind, get_args(Kind))
    most = most_real(victim) if kind == "real" else MOST_SYNTHETIC
    if not _LEAST <= count <= most:
        raise QumosError(f"{count} {kind} queries: {_LEAST} to {most} are possible in scenario {victim.scenario.name}")
    shuffled = zip(victim.together("thief"), victim.keys("order of own rows"), strict=True)
    own = np.stack([np.random.default_rng(key).permutation(rows) for rows, key in shuffled])
    n_own = own.shape[1]
    if kind == "real":
        # Own rows first: they have a label beside the answer.
        rows = np.concatenate([own, query_rows(victim, most_queries(victim))], axis=1)[:, : max(count, n_own)]
        raw, asked = victim.features[rows], np.arange(rows.shape[1]) < count
    else:
        seeded = zip(victim.features[own], victim.keys("synthetic queries"), strict=True)
        drawn = np.stack([synthetic_rows(known, MOST_SYNTHETIC, np.random.default_rng(key)) for known, key in seeded])
        raw = np.concatenate([victim.features[own], drawn[:, :count]], axis=1)
        asked = np.arange(raw.shape[1]) >= n_own
    pairs = zip(victim.preprocessors, raw[:, asked], strict=True)
    encoded = np.stack([fitted.transform(rows) for fitted, rows in pairs])
    answers = victim.model.answers(victim.trained, encoded, victim.keys(f"{count} {kind} queries"))
    labels = np.zeros(raw.shape[:2], int)
    labels[:, asked] = answers.argmax(axis=-1)
    labels[:, :n_own] = victim.labels[own]
    return Answered(raw, asked, encoded, answers, labels)


def most_real(victim: Service) -> int:
    """How many real queries every draw has rows for."""
    return victim.together("thief").shape[1] + most_queries(victim)


Models = Mapping[str, np.ndarray]
"""Labels ``[K, targets]`` of tuning rows, then test rows, by the names that ``surrogates`` gives to models."""


def customer_models(known: Answered, grounds: Sequence[Ground]) -> Models:
    """What can be made of the answers without loot; ``grounds`` are those of every draw."""
    return _labels(known, [unaided(mine, goals) for mine, goals in zip(grounds, _by_draw(known.goals), strict=True)])


def thief_models(scene: Scene, known: Answered, grounds: Sequence[Ground], thief: Thief, told: Told) -> Models:
    """What ``thief`` makes of them with its loot; of cut angles it infers what the answers tell."""
    section = scene.victim.scenario.data
    everything = np.concatenate([known.raw, np.stack([draw.raw_targets for draw in scene.draws])], axis=1)
    pairs = zip(known.raw[:, known.asked], known.encoded, everything, strict=True)
    angles = np.stack([fit_encoding(raw, encoded, rows) for raw, encoded, rows in pairs])
    settled = encoding_called(section.encoding).settle(angles, section.angle_range)
    # Stolen circuits read held qubits alone, whose encoding is intercepted.
    strange = np.stack([draw.stranger.transform(rows) for draw, rows in zip(scene.draws, everything, strict=True)])
    (intercepted, own), (intercepted_targets, own_targets) = zip(
        *(np.split(angles, [known.raw.shape[1]], axis=1) for angles in (settled, strange)), strict=True
    )
    rows, targets = ThiefRows(intercepted, own), ThiefRows(intercepted_targets, own_targets)
    readouts, sums = thief.readouts(scene.victim.trained, rows, targets, known.encoded, as_told(known.answers, told))
    rest = thief.rest(rows, targets)
    found = []
    for draw, goals in enumerate(_by_draw(known.goals)):
        # One draw at a time: the inverted kernels of all would fill the memory.
        known_part = None if sums is None else sums[draw, None]
        found.append(stacked(grounds[draw], goals, readouts[draw, None], known_part, rest[draw, None]))
    return _labels(known, found)


def _by_draw(goals: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    return [{name: goal[draw, None] for name, goal in goals.items()} for draw in range(len(goals[LABELS]))]


def _labels(known: Answered, scores: Sequence[Mapping[str, np.ndarray]]) -> Models:
    targets = known.raw.shape[1]
    return {name: np.stack([one[name][0, targets:].argmax(axis=-1) for one in scores]) for name in scores[0]}


@dataclass(frozen=True, eq=False)
class Point:
    """Accuracies ``[K]`` on the test rows after ``count`` queries, with loot and without."""

    count: int
    thief: np.ndarray
    customer: np.ndarray

    @property
    def gain(self) -> float:
        """What the loot adds, on average."""
        return float(np.mean(self.thief - self.customer))


def points(scene: Scene, kind: Kind, budgets: Sequence[int]) -> dict[Told, list[Point]]:
    """By what is told, one per number of queries, ascending; see the module."""
    victim = scene.victim
    thieves = [scene.thief(*group) for group in coalitions(victim, victim.scenario.threat.coalition)]
    found: dict[Told, list[Point]] = {told: [] for told in get_args(Told)}
    pools: dict[Told, tuple[list[Accuracies], list[Accuracies]]] = {told: ([], []) for told in found}
    for count in budgets:
        known = ask(scene, count, kind)
        grounds = [Ground.of([raw], [draw.raw_targets]) for raw, draw in zip(known.raw, scene.draws, strict=True)]
        alone = customer_models(known, grounds)
        with_loot: dict[Told, list[Models]] = {}
        for told in found:
            if told == "probabilities" or victim.design.cut_gates:
                with_loot[told] = [thief_models(scene, known, grounds, thief, told) for thief in thieves]
            else:
                with_loot[told] = with_loot["probabilities"]  # the same loot tells the same
        for told, (thief, customer) in pools.items():
            customer.append(_best(customer + _accuracies(scene, [alone], told)))
            thief.append(_best([customer[-1], *thief, *_accuracies(scene, with_loot[told], told)]))
            found[told].append(Point(count, thief[-1].scored, customer[-1].scored))
    return found


def _accuracies(scene: Scene, models: Sequence[Models], told: Told) -> list[Accuracies]:
    """Of the models that can be fitted to what is told; those that explain log-odds need probabilities."""
    known = [labels for one in models for name, labels in one.items() if told == "probabilities" or not uses_answers(name)]
    return [Accuracies.of(labels, scene.truth, scene.n_tuning) for labels in known]


def _best(found: Sequence[Accuracies]) -> Accuracies:
    return found[strongest(dict(enumerate(found)))]


def meeting(found: Sequence[Point], relevant: float = RELEVANT) -> int | None:
    """The least number of queries from which on the loot adds at most ``relevant``; ``None`` if it adds more to the end."""
    needed = None
    for point in reversed(found):
        if point.gain > relevant:
            break
        needed = point.count
    return needed


@attack(
    "queries",
    goal="confidentiality",
    title="Queries in place of loot",
    adversary="asks the service real rows or ones it makes up, has a few labelled rows, and fits kernel models to the answers; beside it "
    "the same with all parts of one provider, or of a coalition",
)
def run(victim: Service, budgets: Sequence[int] | None = None) -> AttackResult:
    """Accuracy over queries with loot and without, and where they meet.

    Args:
        victim: the trained models.
        budgets: numbers of queries, ascending, default ``BUDGETS``; real ones are cut to the rows there are.
    """
    budgets = BUDGETS if budgets is None else budgets
    scene = Scene(victim)
    measured: list[Measurement] = []
    curves: list[Curve] = []
    counts: dict[Kind, list[int]] = {
        "real": sorted({min(count, most_real(victim)) for count in budgets}),
        "synthetic": sorted(set(budgets)),
    }
    found = {kind: points(scene, kind, counts[kind]) for kind in counts}
    level = float(np.mean(scene.control.values))
    for told in get_args(Told):
        plot = Plot(f"queries: accuracy over queries that {told} answer", "queries", "accuracy", log_x=True)
        for kind, line in found.items():
            measured += _measurements(scene, line[told], kind, told)
            x = np.array(counts[kind], float)
            curves.append(Curve(plot, f"loot, {kind} rows", x, np.array([one.thief.mean() for one in line[told]])))
            curves.append(Curve(plot, f"no loot, {kind} rows", x, np.array([one.customer.mean() for one in line[told]])))
        ends = np.array([budgets[0], budgets[-1]], float)
        curves.append(Curve(plot, "C*: no loot, no answers", ends, np.array([level, level])))
    return AttackResult(measured, curves)


def _measurements(scene: Scene, found: Sequence[Point], kind: Kind, told: Told) -> list[Measurement]:
    usual = told == scene.victim.scenario.threat.answers
    last, asked = found[-1], f"{kind} rows, {told}"
    bad = Criterion("higher") if usual and kind == "real" else None
    rows = [Measurement(f"customer, {last.count} {asked}", "accuracy", last.customer, scene.control, "", usual, criterion=bad)]
    for one in found:
        without = Control("the same answers without loot", one.customer)
        rows.append(Measurement(f"thief, {one.count} {asked}", "accuracy", one.thief, without))
    needed, met = meeting(found), np.full(len(last.thief), np.nan)
    # One figure of all models together, which has no interval; without any, what is known is that it is no less than was tried.
    met[0] = last.count if needed is None else needed
    if needed is None:
        note = f"never within {last.count} queries: of these the loot still adds {last.gain:.3f}"
    else:
        note = f"from here on the loot adds at most {RELEVANT:g}" + (" (fewer were not tried)" if needed == found[0].count else "")
    own = Control("own rows, which a thief asks anyway", float(scene.labels.shape[1]))
    return [*rows, Measurement(f"loot and answers meet, {asked}", "queries, at least", met, own, note, usual)]
