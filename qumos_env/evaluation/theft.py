"""The term of theft: the strongest of all models that anyone makes who broke into a provider, beside the strongest without loot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from ..model.training import one_hot
from ..scenario.scenario import MIN_ADVANTAGE
from .interception import ThiefRows
from .reward import Standing
from .surrogates import as_told, log_odds, stacked, unaided
from .terms import Fact, Means, Subject, TermResult, term
from .thief import STACKED, Thief
from .workload import split_accuracy

Case = tuple[str, str, str]
"""Who (a provider, several, or nobody), by which tier, with which model."""
QUERIES_ONLY = "queries only"  # no provider can have this name


def thief_of(subject: Subject, providers: str | Sequence[str]) -> Thief:
    """Whoever broke into ``providers``."""
    service, scenario = subject.service, subject.scenario
    return Thief(service.design, providers, service.n_classes, scenario.model, scenario.threat, scenario.data.axis)


@term("theft", always=True)
def theft(subject: Subject) -> TermResult:
    """Every coalition's thief by every tier of the scenario; the strongest is chosen on tuning rows and scored on others.

    Reports ``theft``, its accuracy, ``theft_provider``, ``theft_tier`` and ``theft_model``; ``control`` and ``control_name``: C*, what the
    thief's rows alone give; ``query_control``: what the rows and the service's answers to them give without loot; ``theft_gain``, what
    the loot adds to the better of the two; ``thieves``: ``provider/tier`` -> accuracy; ``nothing_worth_stealing``: the owner's model is
    not clearly better than the control.
    """
    scenario, threat = subject.scenario, subject.scenario.threat
    rows, targets = (ThiefRows.stack([getattr(draw, name) for draw in subject.draws]) for name in ("thief", "targets"))
    labels, answers = subject.together("thief_labels"), as_told(subject.answers("queries"), threat.answers)
    kernels = subject.service.workload.kernels(subject.service.seed, subject.rows)
    goals = {"labels": one_hot(labels, subject.service.n_classes) - 1 / subject.service.n_classes, "answers": log_odds(answers)}
    scores: dict[Case, np.ndarray] = {}
    for group in combinations(scenario.provider_names, threat.coalition):
        if not any(subject.service.design.held_by(provider) for provider in group):
            continue
        thief, keys = thief_of(subject, group), subject.keys(f"thief of {'+'.join(group)}")
        for tier in thief.tiers(threat.tiers):
            if tier == STACKED:
                readouts, sums = thief.readouts(subject.service.trained, rows, targets, subject.together("queries"), answers)
                found = stacked(kernels, goals, readouts, sums)
                scores |= {(thief.provider, tier, model): _of_targets(mine, labels) for model, mine in found.items()}
            else:
                scores[thief.provider, tier, ""] = thief.attack(tier, subject.service.trained, rows, labels, answers, targets, keys)
    tuning, scored = _accuracies(subject, scores)
    questions = {model: mine for model, mine in unaided(kernels, goals).items() if "answers" in model}
    asked = {(QUERIES_ONLY, STACKED, model): _of_targets(mine, labels) for model, mine in questions.items()}
    asked_tuning, asked_scored = _accuracies(subject, asked)
    strongest, asker = _strongest(tuning), _strongest(asked_tuning)
    control, advantage = subject.control, subject.accuracy - subject.control.accuracies
    without = asked_scored[asker] if asked_tuning[asker].mean() > control.tuning.mean() else control.accuracies
    rational = threat.thief == "rational"

    def share(standing: Standing, means: Means) -> float:
        # A rational thief leaves the loot where it misleads: no design gains by making its training fail.
        rivals = ("theft", "control", "query_control") if rational else ("theft",)
        return standing.margin(max(means[rival] for rival in rivals))

    by_tier = {}
    for who, tier in dict.fromkeys(case[:2] for case in scored):
        best = _strongest({case: values for case, values in tuning.items() if case[:2] == (who, tier)})
        by_tier[f"{who}/{tier}"] = float(scored[best].mean())
    facts: dict[str, Fact] = {
        "theft_provider": strongest[0],
        "theft_tier": strongest[1],
        "theft_model": strongest[2],
        "theft_gain": float(scored[strongest].mean() - without.mean()),
        "control_name": control.name,
        "query_control_name": asker[2],
        "nothing_worth_stealing": bool(advantage.mean() < MIN_ADVANTAGE * subject.standard_error(advantage)),
        "thieves": by_tier,
    }
    measured = {"theft": scored[strongest], "control": control.accuracies, "query_control": asked_scored[asker]}
    return TermResult(measured, share, facts)


def _of_targets(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Without the thief's own rows, which come first."""
    return scores[:, labels.shape[1] :]


def _accuracies(subject: Subject, scores: Mapping[Case, np.ndarray]) -> tuple[dict[Case, np.ndarray], dict[Case, np.ndarray]]:
    """Per case the accuracies ``[K]`` of its ``scores`` ``[K, targets, classes]``: on the tuning rows and on the scored rows."""
    tuning, scored = {}, {}
    for case, values in scores.items():
        pairs = [split_accuracy(given, draw) for given, draw in zip(values.argmax(axis=-1), subject.draws, strict=True)]
        tuning[case], scored[case] = np.array(pairs).T
    return tuning, scored


def _strongest(tuning: Mapping[Case, np.ndarray]) -> Case:
    """The best on the tuning rows, pooled over draws, so that the maximum over cases is not inflated by the scored rows."""
    return max(tuning, key=lambda case: float(tuning[case].mean()))
