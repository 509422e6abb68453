"""The full theft suite of an audit: every coalition, every tier, both sources of labels, with restarts and many steps.

To the thief of rewards, ``stacked``, come quantum models that train on its own rows (of the restarts the one is kept that is best on the
tuning rows of each draw), ``self-trained`` ones that go on with all rows that pass by, labelled by the stacked model, ``denoised``: the
stacked model's scores smoothed over all these rows, and ``pooled``: the mean of the best of both kinds. All are scored on the test rows.
Beside what a thief gets from labels or from the service's answers stands the best of what the same labels or answers give without loot, by
the same models with the same restarts and steps. So a control never tries less hard than its thief. Where the thief of rewards is stronger
on the test rows than the choice among all, it is what is reported: an audit shows no less than a reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from ...errors import QumosError, unknown
from ...evaluation.controls import RAW_CONTROLS
from ...evaluation.service import Service
from ...evaluation.surrogates.models import log_odds, pooled
from ...evaluation.theft import QUERIES_ONLY
from ...evaluation.thief import AUDIT_TIERS, CUT_VARIANTS, STACKED, Source, Thief
from ...model.training import one_hot
from ..registry import attack
from ..results import AttackResult, BarChart, Control, Criterion, Measurement
from .stealing import AUDIT_EFFORT, Effort, Outcome, Scene, best_of, taught

# What thieves learn from, and what that is called.
SOURCES: dict[Source, str] = {"labels": "labels", "queries": "answers"}
SELF_TRAINED, POOLED, DENOISED = "self-trained", "pooled", "denoised"
ALL_TIERS = (*AUDIT_TIERS, STACKED, SELF_TRAINED, POOLED, DENOISED)
BEST = "best thief"
CHART = BarChart("theft by provider and tier", "accuracy", service=True)


@attack(
    "theft",
    goal="confidentiality",
    title="Theft of a part",
    adversary="holds all parts of one provider, or of a coalition, with their trained angles and the encoding of its queries; has a few "
    "labelled rows and the service's answers to them; trains with restarts",
)
def run(
    victim: Service,
    groups: Sequence[Sequence[str]] | None = None,
    tiers: Sequence[str] = ALL_TIERS,
    sources: Sequence[Source] = tuple(SOURCES),
    effort: Effort = AUDIT_EFFORT,
) -> AttackResult:
    """Every coalition's theft by every tier from every source.

    Args:
        victim: the trained models.
        groups: coalitions by name; default all of the size that the scenario's threat section names.
        tiers: see the module, and ``qumos_env.evaluation.thief``.
        sources: what the thieves learn from. The tier ``as-is`` needs no answers and is run once, with labels.
        effort: restarts and steps of every thief, the one without loot included.

    Raises:
        QumosError: a coalition, a tier or a source that does not exist.
    """
    for source in sources:
        if source not in SOURCES:
            raise unknown("source of labels", source, SOURCES)
    for tier in tiers:
        if tier not in ALL_TIERS:
            raise unknown("theft tier", tier, ALL_TIERS)
    if groups is None:
        groups = coalitions(victim, victim.scenario.threat.coalition)
    scene = Scene(victim)
    nobody = {source: without_loot(scene, source, effort) for source in SOURCES}
    outcomes: dict[str, tuple[Source, Outcome]] = {}
    for group in groups:
        thief = scene.thief(*checked_coalition(victim, group))
        for source in sources:
            for tier, outcome in _all_tiers(scene, thief, tiers, source, effort).items():
                if tier == "as-is" and source != sources[0]:
                    continue
                case = f"{thief.provider}, {tier}{' from queries' if source == 'queries' and tier != 'as-is' else ''}"
                outcomes[case] = source, outcome

    def measured(case: str, outcome: Outcome, beside: Source, control: str, note: str = "", headline: bool = False) -> Measurement:
        without = Control(f"best model without loot, from {control}", nobody[beside].test)
        judged = Criterion("higher") if case == BEST else None
        return Measurement(case, "accuracy", outcome.test, without, note, headline, CHART, judged)

    found = [measured(case, outcome, source, f"the same {SOURCES[source]}") for case, (source, outcome) in outcomes.items()]
    found.append(measured("no loot, from queries", nobody["queries"], "labels", SOURCES["labels"], headline=True))
    chosen = max(outcomes, key=lambda case: float(outcomes[case][1].tuning.mean()))
    # That of rewards is chosen in the same way, among fewer.
    usual = {case: one for case, one in outcomes.items() if f", {STACKED}" in case}
    best = max([chosen, *_strongest(usual)], key=lambda case: float(outcomes[case][1].test.mean()))
    honest = max(sources, key=lambda source: float(nobody[source].tuning.mean()))
    note = f"by {best}, the best on the tuning rows{'' if best == chosen else ' of the stacked ones'}"
    found.append(measured(BEST, outcomes[best][1], honest, f"{SOURCES[honest]}: the better on the tuning rows", note, True))
    return AttackResult(found)


def strongest_thief(victim: Service, effort: Effort = AUDIT_EFFORT) -> Measurement:
    """What the best thief of an audit achieves, beside its control; see ``run``."""
    return next(one for one in run(victim, effort=effort).measurements if one.case == BEST)


def _strongest(outcomes: Mapping[str, tuple[Source, Outcome]]) -> list[str]:
    """The case that is best on the tuning rows, if there is any."""
    return [max(outcomes, key=lambda case: float(outcomes[case][1].tuning.mean()))] if outcomes else []


def _all_tiers(scene: Scene, thief: Thief, tiers: Sequence[str], source: Source, effort: Effort) -> dict[str, Outcome]:
    """What ``thief`` achieves by each of ``tiers`` from ``source``; ``pooled`` where it has both kinds of models."""
    use = f"theft by {thief.provider}"
    trained = {
        tier: scene.steal(thief, tier, source, effort, use=use) for tier in thief.tiers([tier for tier in tiers if tier in AUDIT_TIERS])
    }
    if not {STACKED, SELF_TRAINED, POOLED, DENOISED} & set(tiers):
        return trained
    fitted = scene.closed_form(thief, source)
    found = {STACKED: fitted}
    if {SELF_TRAINED, POOLED} & set(tiers):
        trained[SELF_TRAINED] = scene.self_trained(thief, source, effort, fitted, use)
    if DENOISED in tiers:
        found[DENOISED] = scene.denoised(fitted)
    if POOLED in tiers:
        found[POOLED] = scene.outcome(pooled([fitted.scores, log_odds(best_of(list(trained.values())).scores)]))
    return {tier: outcome for tier, outcome in (trained | found).items() if tier in tiers or tier == CUT_VARIANTS}


def without_loot(scene: Scene, source: Source, effort: Effort) -> Outcome:
    """What ``source`` gives a thief that holds nothing: of the models it may fit the best on the tuning rows."""
    nobody = scene.thief(QUERIES_ONLY)
    outcomes = list(_all_tiers(scene, nobody, ("guessed-rest", STACKED, SELF_TRAINED, POOLED, DENOISED), source, effort).values())
    names = scene.labels if source == "labels" else scene.answers.argmax(axis=-1)
    for fit in RAW_CONTROLS.values():
        pairs = zip(scene.draws, names, strict=True)
        predicted = [taught(fit, draw.raw_thief, found, draw.raw_targets) for draw, found in pairs]
        outcomes.append(scene.outcome(one_hot(np.stack(predicted), scene.victim.n_classes)))
    return best_of(outcomes)


def coalitions(victim: Service, size: int) -> list[tuple[str, ...]]:
    """All coalitions of ``size`` providers of the scenario of which at least one runs a part.

    Raises:
        QumosError: the scenario has fewer providers, or ``size`` is below 1.
    """
    names = victim.scenario.provider_names
    if not 1 <= size <= len(names):
        where = f"scenario {victim.scenario.name} has {len(names)} provider(s)"
        raise QumosError(f"threat.coalition is {size}, {where}: choose 1 to {len(names)}")
    return [group for group in combinations(names, size) if set(group) & set(victim.design.assignment)]


def checked_coalition(victim: Service, group: Sequence[str]) -> tuple[str, ...]:
    """``group`` as a coalition; raises QumosError for a name that is no provider of the scenario, or one named twice."""
    for name in group:
        if name not in victim.scenario.provider_names:
            raise unknown(f"provider in scenario {victim.scenario.name}", name, victim.scenario.provider_names)
    if not group or len(set(group)) != len(group):
        raise QumosError(f"coalition {'+'.join(group)!r}: name one or more providers, each once")
    return tuple(group)
