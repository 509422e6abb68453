"""Extraction: cloning the service from its answers alone.

The adversary is a customer. It owns rows without labels, sends some of them as queries, and trains models on what comes back:
the top-1 label or the whole probability vector. It knows the scenario (register width, kind of head, kind of preprocessing) but
neither circuit nor partition; its clone is a hand-made ansatz, and its preprocessing is fitted on its queries. It breaks into no
provider. Since it holds raw features, a kernel machine on them is a clone too, and often the best.

A clone may score well only because the task is easy, so two controls stand beside every attack. *No service*: a clone of the same
structure trained on the adversary's few labelled rows, which is what it has without the answers; the accuracy above it is what the
service gave away. *No victim*: the same clone trained on the true labels of the query rows, which no adversary has; agreement above
it is what makes a clone of this model more than another good model of the same task.

The ensemble follows QuantumLeak (arXiv 2403.10790) in outline: local QNNs with the Huber loss, bagged, over rounds of queries, their
predictions averaged. A round adds random rows: choosing those on which the members disagree most was no better on the
scenarios tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...evaluation.service import Service
from ..registry import attack
from ..results import AttackResult, Control, Criterion, Curve, Measurement, Plot
from .black_box import LEAST_FILTERED, ask, ensemble, filtered, kernel_clone, most_queries, query_rows, single, without_service
from .cloning import Clones
from .stealing import Scene

BUDGETS = (20, 60, 150)
METRICS = ("accuracy", "agreement", "agreement on errors", "total variation")
LEAST_ERRORS = 5
"""Errors of the victim below which agreement on them says nothing."""
NO_SERVICE = "no service: one clone trained on the adversary's labelled rows"
NO_VICTIM = "no victim: the same clone, trained on the true labels of the same rows"


@dataclass(frozen=True)
class Scores:
    """How close clones came, one value per draw ``[K]``; ``errors`` is NaN where the victim errs on too few rows.

    Attributes:
        accuracy: share of rows classified rightly.
        agreement: share of rows classified as the victim classifies them.
        errors: the same share among the rows that the victim gets wrong.
        variation: mean total variation distance between the two probability vectors; 0 is a perfect clone.
    """

    accuracy: np.ndarray
    agreement: np.ndarray
    errors: np.ndarray
    variation: np.ndarray

    def metric(self, name: str) -> np.ndarray:
        """The values ``[K]`` of one of ``METRICS``."""
        return dict(zip(METRICS, (self.accuracy, self.agreement, self.errors, self.variation), strict=True))[name]


def score(clones: np.ndarray, victims: np.ndarray, labels: np.ndarray) -> Scores:
    """Compares probabilities ``[K, rows, classes]`` of clones and victims on rows with true ``labels`` ``[K, rows]``."""
    guessed, answered = clones.argmax(axis=-1), victims.argmax(axis=-1)
    same, wrong = guessed == answered, answered != labels
    count = wrong.sum(axis=1)
    errors = np.where(count >= LEAST_ERRORS, (same & wrong).sum(axis=1) / np.maximum(count, 1), np.nan)
    variation = np.abs(clones - victims).sum(axis=-1).mean(axis=1) / 2
    return Scores((guessed == labels).mean(axis=1), same.mean(axis=1), errors, variation)


def score_answers(victim: Service, answers: np.ndarray) -> Scores:
    """Of a clone's ``answers`` ``[K, test rows, classes]`` to the test split, held against the victim's exact ones.

    The shots of a service's answers are no part of the model that is cloned.
    """
    exact = victim.model.probabilities(victim.trained, victim.encode(victim.test))
    return score(answers, exact, victim.labels[victim.test])


def score_on_test(victim: Service, clones: Clones) -> Scores:
    """Of ``clones`` on the test split."""
    return score_answers(victim, clones.probabilities(victim.features[victim.test]))


def budgets(victim: Service) -> tuple[int, ...]:
    """The query budgets of the audit, cut to the rows there are."""
    most = most_queries(victim)
    return tuple(sorted({min(budget, most) for budget in BUDGETS}))


@dataclass(frozen=True)
class _Kind:
    """A way to clone, named after what it spent, with its two controls and, if it does not apply, the reason.

    ``headlines`` are the metrics that stand in the summary.
    """

    name: str
    clone: Scores
    no_victim: Scores
    no_service: Scores
    reason: str = ""
    headlines: tuple[str, ...] = ()

    def measurements(self, models: int) -> list[Measurement]:
        """One per metric; accuracy is set beside what the adversary has without the service, the rest beside no victim."""
        found = []
        for metric in METRICS:
            values = self.clone.metric(metric) if not self.reason else np.full(models, np.nan)
            name, beside = (NO_SERVICE, self.no_service) if metric == "accuracy" else (NO_VICTIM, self.no_victim)
            note = self.reason or _note(values, metric)
            found.append(Measurement(self.name, metric, values, Control(name, beside.metric(metric)), note, metric in self.headlines))
        return found


def _note(values: np.ndarray, metric: str) -> str:
    missing = int(np.isnan(values).sum())
    if not missing:
        return ""
    if metric == "total variation":
        return "a kernel machine gives labels only"
    return f"{missing} of {len(values)} models err on fewer than {LEAST_ERRORS} test rows"


@attack(
    "extraction",
    goal="confidentiality",
    title="Black-box extraction",
    adversary="is a customer with unlabelled rows and a few labelled ones: sends rows as queries, and trains clones on the labels or "
    "probabilities that come back; knows the scenario, not the design, except where a case says so",
)
def run(victim: Service) -> AttackResult:
    """Clones of every kind at the largest budget, beside their controls, and how they grow with the budget."""
    spent = budgets(victim)
    full = spent[-1]
    by_labels, by_vectors = ([single(victim, budget, kind) for budget in spent] for kind in ("labels", "probabilities"))
    ensembles = ensemble(victim, spent, "probabilities")
    labels, vectors, bagged = ([score_on_test(victim, one) for one in clones] for clones in (by_labels, by_vectors, ensembles))
    truth = [score_on_test(victim, single(victim, budget, "truth")) for budget in spent]
    bagged_truth = score_on_test(victim, ensemble(victim, [full], "truth")[0])
    known = score_on_test(victim, single(victim, full, "probabilities", victim.model))
    known_truth = score_on_test(victim, single(victim, full, "truth", victim.model))
    alone, known_alone = (score_on_test(victim, without_service(victim, full, model)) for model in (None, victim.model))
    rows, own = query_rows(victim, full), victim.together("thief")
    raw, raw_truth, raw_alone = (
        _labels_only(score_answers(victim, kernel_clone(victim, *seen)))
        for seen in ((rows, ask(victim, rows, "labels")), (rows, ask(victim, rows, "truth")), (own, ask(victim, own, "truth")))
    )
    kinds = [
        _Kind(f"one clone, {full} labels", labels[-1], truth[-1], alone),
        _Kind(f"one clone, {full} probabilities", vectors[-1], truth[-1], alone),
        _Kind(f"ensemble, {full} probabilities", bagged[-1], bagged_truth, alone, headlines=("accuracy", "agreement on errors")),
        _Kind(f"one clone of the known design, {full} probabilities", known, known_truth, known_alone),
        _Kind(f"kernel machine, {full} labels", raw, raw_truth, raw_alone),
        _filtered_kind(victim, full, truth[-1], alone),
    ]
    found = [measurement for kind in kinds for measurement in kind.measurements(len(victim.rows))]
    without = {"one clone": (truth[-1], alone), "ensemble": (bagged_truth, alone), "kernel machine": (raw_truth, raw_alone)}
    for name, (scores, control) in without.items():
        beside = Control(NO_SERVICE, control.accuracy)
        found.append(Measurement(f"no victim, {name}", "accuracy", scores.accuracy, beside, headline=name == "ensemble"))
    answers = ask(victim, rows, "labels")
    tuning = victim.together("tuning")
    given = {
        "one clone by labels": (by_labels[-1].probabilities(victim.features[tuning]), labels[-1]),
        "one clone by probabilities": (by_vectors[-1].probabilities(victim.features[tuning]), vectors[-1]),
        "ensemble": (ensembles[-1].probabilities(victim.features[tuning]), bagged[-1]),
        "kernel machine": (kernel_clone(victim, rows, answers, tuning), raw),
    }
    found.append(_strongest(victim, given, f"{full} queries"))
    curves = []
    for metric in ("accuracy", "agreement"):
        plot = Plot(f"extraction: {metric} over queries", "queries", metric)
        lines = {"labels": labels, "probabilities": vectors, "ensemble, probabilities": bagged, "no victim, true labels": truth}
        for name, line in lines.items():
            means = np.array([scores.metric(metric).mean() for scores in line])
            curves.append(Curve(plot, name, np.array(spent, float), means))
    return AttackResult(found, curves)


def _strongest(victim: Service, given: Mapping[str, tuple[np.ndarray, Scores]], spent: str) -> Measurement:
    """The best of the clones on the tuning rows, beside the best that the same customer can train without the service.

    ``given`` are their answers to the tuning rows ``[K, rows, classes]`` and how they do on the test rows. (A clone beside its own
    kind alone gains where that kind learns badly from few rows, although another learns well.)
    """
    truth = victim.labels[victim.together("tuning")]
    best = max(given, key=lambda name: float(np.mean(given[name][0].argmax(axis=-1) == truth)))
    note = f"{best}, the best on the tuning rows"
    accuracy = given[best][1].accuracy
    return Measurement(f"best clone, {spent}", "accuracy", accuracy, Scene(victim).control, note, True, criterion=Criterion("higher"))


def _filtered_kind(victim: Service, budget: int, no_victim: Scores, no_service: Scores) -> _Kind:
    name = f"one clone, {budget} probabilities with repeats filtered"
    if victim.design.shots is None:
        return _Kind(name, no_victim, no_victim, no_service, "the service answers without shots: repeats tell nothing")
    if budget < LEAST_FILTERED:
        return _Kind(name, no_victim, no_victim, no_service, f"filtering needs {LEAST_FILTERED} queries")
    clone, control = (score_on_test(victim, filtered(victim, budget, answers)) for answers in ("probabilities", "truth"))
    return _Kind(name, clone, control, no_service)


def _labels_only(scores: Scores) -> Scores:
    return replace(scores, variation=np.full_like(scores.variation, np.nan))
