"""The term of theft: the strongest of all models that anyone makes who broke into a provider, beside the strongest without loot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from ..scenario.scenario import MIN_ADVANTAGE
from .choice import Accuracies, likeliest, strongest
from .interception import ThiefRows
from .reward import Standing
from .surrogates.models import ANSWERS, LABELS, as_told, label_goal, log_odds, stacked, unaided, uses_answers
from .terms import Evidence, Fact, Means, Observed, Subject, TermResult, term
from .thief import STACKED, Thief

QUERIES_ONLY = "queries only"  # no provider can have this name


def thief_of(subject: Subject, providers: str | Sequence[str]) -> Thief:
    """Whoever broke into ``providers``."""
    service, scenario = subject.service, subject.scenario
    return Thief(service.design, providers, service.n_classes, scenario.model, scenario.threat, scenario.data.axis)


def _cases(subject: Subject) -> Observed:
    """Accuracies of everybody's models, those without loot included, by ``who/tier/model``."""
    scenario, threat = subject.scenario, subject.scenario.threat
    rows, targets = (ThiefRows.stack([getattr(draw, name) for draw in subject.draws]) for name in ("thief", "targets"))
    labels, answers = subject.together("thief_labels"), as_told(subject.answers("queries"), threat.answers)
    ground, goals = subject.ground, {LABELS: label_goal(labels, subject.service.n_classes), ANSWERS: log_odds(answers)}
    truth, tuning = subject.together("target_labels"), subject.together("tuning_labels").shape[1]

    def judged(models: Mapping[str, np.ndarray], who: str, tier: str) -> dict[str, np.ndarray]:
        # Without the thief's own rows, which come first where there are any.
        predicted = np.stack([likeliest(scores[:, -truth.shape[1] :]) for scores in models.values()])
        names = (f"{who}/{tier}/{model}" for model in models)
        return dict(zip(names, Accuracies.of(predicted, truth, tuning).pairs, strict=True))

    found: dict[str, np.ndarray] = {}
    for group in combinations(scenario.provider_names, threat.coalition):
        if not any(subject.service.design.held_by(provider) for provider in group):
            continue
        thief, keys = thief_of(subject, group), subject.keys(f"thief of {'+'.join(group)}")
        for tier in thief.tiers(threat.tiers):
            if tier == STACKED:
                readouts, sums = thief.readouts(subject.service.trained, rows, targets, subject.together("queries"), answers)
                models = stacked(ground, goals, readouts, sums, thief.rest(rows, targets))
            else:
                models = {"": thief.attack(tier, subject.service.trained, rows, labels, answers, targets, keys)}
            found |= judged(models, thief.provider, tier)
    asked = {model: scores for model, scores in unaided(ground, goals).items() if uses_answers(model)}
    return found | judged(asked, QUERIES_ONLY, STACKED)


@term("theft", observe=_cases, always=True)
def theft(evidence: Evidence, observed: Observed) -> TermResult:
    """Every coalition's thief by every tier of the scenario; the strongest is chosen on tuning rows and scored on others.

    Reports ``theft``, its accuracy, ``theft_provider``, ``theft_tier`` and ``theft_model``; ``control`` and ``control_name``: C*, what the
    thief's rows alone give; ``query_control``: what the rows and the service's answers to them give without loot; ``theft_gain``, what
    the loot adds to the better of the two; ``thieves``: ``provider/tier`` -> accuracy; ``nothing_worth_stealing``: the owner's model is
    not clearly better than the control.
    """
    cases = {tuple(name.split("/", 2)): Accuracies.from_pairs(pairs) for name, pairs in observed.items()}
    asked = {case: one for case, one in cases.items() if case[0] == QUERIES_ONLY}
    thieves = {case: one for case, one in cases.items() if case[0] != QUERIES_ONLY}
    best, asker = strongest(thieves), strongest(asked)
    control, advantage = evidence.control, evidence.accuracy - evidence.control.accuracies
    without = asked[asker].scored if asked[asker].tuning.mean() > control.tuning.mean() else control.accuracies
    rational = evidence.scenario.threat.thief == "rational"

    def share(standing: Standing, means: Means) -> float:
        # A rational thief leaves the loot where it misleads: no design gains by making its training fail.
        rivals = ("theft", "control", "query_control") if rational else ("theft",)
        return standing.margin(max(means[rival] for rival in rivals))

    by_tier = {}
    for who, tier in dict.fromkeys(case[:2] for case in thieves):
        model = strongest({case: one for case, one in thieves.items() if case[:2] == (who, tier)})
        by_tier[f"{who}/{tier}"] = float(thieves[model].scored.mean())
    facts: dict[str, Fact] = {
        "theft_provider": best[0],
        "theft_tier": best[1],
        "theft_model": best[2],
        "theft_gain": float(thieves[best].scored.mean() - without.mean()),
        "control_name": control.name,
        "query_control_name": asker[2],
        "nothing_worth_stealing": bool(advantage.mean() < MIN_ADVANTAGE * evidence.standard_error(advantage)),
        "thieves": by_tier,
    }
    measured = {"theft": thieves[best].scored, "control": control.accuracies, "query_control": asked[asker].scored}
    return TermResult(measured, share, facts)
