"""The full theft suite of an audit: every coalition, every tier, both sources of labels, with restarts and many steps.

A thief trains on its own rows, keeps of its restarts the one that is best on the tuning rows of each draw, and is scored on the
test rows. Beside what it gets from labels or from the service's answers stands the best of what the same labels or answers give
without loot: a quantum model with the same restarts and steps, or one on raw features. So a control never tries less hard than
its thief; the C* of rewards, where every thief is trained once and briefly, is no control here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from ...errors import QumosError, unknown
from ...evaluation.controls import RAW_CONTROLS
from ...evaluation.interception import ThiefRows
from ...evaluation.service import Service
from ...evaluation.theft import AUDIT_TIERS, QUERIES_ONLY, Source, Thief
from ...evaluation.workload import PreparedDraw
from ...model.training import Parameters, one_hot
from ..registry import attack
from ..results import AttackResult, Figure

NAME = "theft"
RESTARTS = 3
STEP_FACTOR = 5
SOURCES: tuple[Source, ...] = ("labels", "queries")
C_STAR = "best model without loot (C*)"
WITHOUT_LOOT = "best model without loot"
SOURCE_NAMES: dict[Source, str] = {"labels": "labels", "queries": "answers"}
NO_LOOT = "no loot"
_ANSWERS = 0x7EF7  # use number of the thief's questions, see Service.answer


@dataclass(frozen=True)
class Effort:
    """How hard a thief tries: trainings from different starts, and Adam steps as a multiple of the scenario's."""

    restarts: int = RESTARTS
    step_factor: int = STEP_FACTOR


SEARCH_EFFORT = Effort(restarts=1, step_factor=1)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Accuracies of one thief, one per draw: on the tuning rows (for choices) and on the test rows (for figures)."""

    tuning: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class Scene:
    """What every thief of a victim shares: its rows, the service's answers to them, and the rows it is judged on."""

    victim: Service

    @cached_property
    def draws(self) -> tuple[PreparedDraw, ...]:
        """The victim's draws, scored on the test split."""
        return self.victim.workload.draws(self.victim.seed, "test")

    @cached_property
    def rows(self) -> ThiefRows:
        """The thief's rows, ``[K, rows, n_qubits]``."""
        return ThiefRows.stack([draw.thief for draw in self.draws])

    @cached_property
    def targets(self) -> ThiefRows:
        """Tuning rows, then test rows."""
        return ThiefRows.stack([draw.targets for draw in self.draws])

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels of the thief's rows, ``[K, rows]``."""
        return np.stack([draw.thief_labels for draw in self.draws])

    @cached_property
    def answers(self) -> np.ndarray:
        """The service's answers to the thief's rows, ``[K, rows, classes]``."""
        return self.victim.answer(self.victim.together("thief"), _ANSWERS)

    @cached_property
    def control(self) -> np.ndarray:
        """C* on the test rows, ``[K]``."""
        return self.victim.workload.control(self.victim.seed, "test").accuracies

    def outcome(self, probabilities: np.ndarray) -> Outcome:
        """Accuracies of answers ``[K, targets, classes]``; with restarts in front, of the restart that each draw's tuning rows favour."""
        if probabilities.ndim == 3:
            probabilities = probabilities[None]
        n_tuning = len(self.draws[0].tuning_labels)
        truth = np.stack([np.concatenate([draw.tuning_labels, draw.score_labels]) for draw in self.draws])
        right = probabilities.argmax(axis=-1) == truth
        tuning, test = right[..., :n_tuning].mean(axis=-1), right[..., n_tuning:].mean(axis=-1)
        best = tuning.argmax(axis=0), np.arange(len(self.draws))
        return Outcome(tuning[best], test[best])

    def thief(self, *providers: str) -> Thief:
        """The thief of these providers."""
        victim, scenario = self.victim, self.victim.scenario
        return Thief(victim.design, providers, victim.n_classes, scenario.model, scenario.threat, scenario.data.axis)

    def steal(
        self,
        thief: Thief,
        tier: str,
        source: Source,
        effort: Effort = SEARCH_EFFORT,
        *,
        loot: Parameters | None = None,
        seen: np.ndarray | None = None,
        use: int = 0,
    ) -> Outcome:
        """What ``thief`` achieves; its restarts are trained side by side.

        Args:
            thief, tier, source, effort: who steals, how, from what, and how hard it tries.
            loot: default the trained angles.
            seen: bool ``[n_qubits]``, whether it intercepts the encoding of a qubit that it holds; default all.
            use: number of this theft, which seeds it.
        """
        loot = loot or self.victim.trained
        seen = np.ones(thief.n_qubits, bool) if seen is None else seen
        restarts, size = effort.restarts, len(self.draws)

        def repeated(values: np.ndarray) -> np.ndarray:
            return np.concatenate([values] * restarts)

        def known(rows: ThiefRows) -> ThiefRows:
            return ThiefRows(repeated(np.where(seen, rows.intercepted, rows.own)), repeated(rows.own))

        probabilities = thief.attack(
            tier,
            Parameters(repeated(loot.angles), repeated(loot.head)),
            known(self.rows),
            repeated(self.labels),
            repeated(self.answers),
            known(self.targets),
            [(*key, restart) for restart in range(restarts) for key in self.victim.keys(use)],
            source=source,
            steps=effort.step_factor * self.victim.scenario.threat.steps,
        )
        return self.outcome(probabilities.reshape(restarts, size, *probabilities.shape[1:]))


def without_loot(scene: Scene, source: Source, effort: Effort) -> Outcome:
    """What ``source`` gives a thief that holds nothing: of the models it may train the best on the tuning rows."""
    outcomes = [scene.steal(scene.thief(QUERIES_ONLY), "guessed-rest", source, effort)]
    names = scene.labels if source == "labels" else scene.answers.argmax(axis=-1)
    for fit in RAW_CONTROLS.values():
        pairs = zip(scene.draws, names, strict=True)
        predicted = [taught(fit, draw.raw_thief, found, draw.raw_targets) for draw, found in pairs]
        outcomes.append(scene.outcome(one_hot(np.stack(predicted), scene.victim.n_classes)))
    return max(outcomes, key=lambda outcome: float(outcome.tuning.mean()))


def taught(
    fit: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], features: np.ndarray, labels: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Labels that the classifier ``fit`` gives ``targets``, or the only label there is."""
    return fit(features, labels, targets) if len(np.unique(labels)) > 1 else np.repeat(labels[:1], len(targets))


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


def audit_theft(
    victim: Service,
    groups: Sequence[Sequence[str]] | None = None,
    tiers: Sequence[str] = tuple(AUDIT_TIERS),
    sources: Sequence[Source] = SOURCES,
    effort: Effort = Effort(),
) -> AttackResult:
    """Every coalition's theft by every tier from every source.

    Args:
        victim: the trained models.
        groups: coalitions by name; default all of the size that the scenario's threat section names.
        tiers: see ``qumos_env.evaluation.theft``.
        sources: what the thieves learn from. The tier ``as-is`` needs no answers and is run once, with labels.
        effort: restarts and steps of every thief, the one without loot included.

    Raises:
        QumosError: a coalition, a tier or a source that does not exist.
    """
    for source in sources:
        if source not in SOURCES:
            raise unknown("source of labels", source, SOURCES)
    if groups is None:
        groups = coalitions(victim, victim.scenario.threat.coalition)
    scene = Scene(victim)
    nobody = {source: without_loot(scene, source, effort) for source in SOURCES}
    outcomes: dict[str, tuple[Source, Outcome]] = {}
    for number, group in enumerate(groups, start=1):
        thief = scene.thief(*checked_coalition(victim, group))
        for tier in thief.tiers(tiers):
            for source in sources if tier != "as-is" else sources[:1]:
                name = f"{thief.provider}, {tier}{' from queries' if source == 'queries' and tier != 'as-is' else ''}"
                outcomes[name] = source, scene.steal(thief, tier, source, effort, use=number)
    figures = [
        _figure(name, outcome, nobody[source], f"{WITHOUT_LOOT}, from the same {SOURCE_NAMES[source]}")
        for name, (source, outcome) in outcomes.items()
    ]
    from_labels = f"{WITHOUT_LOOT}, from {SOURCE_NAMES['labels']}"
    figures.append(_figure(f"{NO_LOOT}, from queries", nobody["queries"], nobody["labels"], from_labels))
    best = max(outcomes, key=lambda name: float(outcomes[name][1].tuning.mean()))
    honest = max(sources, key=lambda source: float(nobody[source].tuning.mean()))
    note = f"by {best}, the best on the tuning rows"
    control = f"{WITHOUT_LOOT}, from {SOURCE_NAMES[honest]}: the better on the tuning rows"
    figures.append(_figure("best thief", outcomes[best][1], nobody[honest], control, note))
    return AttackResult(figures)


def _figure(name: str, outcome: Outcome, control: Outcome, meaning: str, note: str = "") -> Figure:
    return Figure("confidentiality", NAME, f"{name}: accuracy", outcome.test, control.test, meaning, note=note)


@attack(
    NAME,
    "confidentiality",
    "holds all parts of one provider, or of a coalition, with their trained angles and the encoding of its queries; has a few labelled "
    "rows and the service's answers to them; trains with restarts",
)
def run(victim: Service) -> AttackResult:
    """See ``audit_theft``."""
    return audit_theft(victim)
