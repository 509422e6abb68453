"""What every thief of an audit needs: its rows, the service's answers to them, and the rows that it is judged on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np

from ...evaluation.choice import Accuracies
from ...evaluation.interception import ThiefRows
from ...evaluation.service import Service
from ...evaluation.surrogates.families import components
from ...evaluation.surrogates.models import ANSWERS, LABELS, as_told, label_goal, log_odds, stacked, unaided, uses_answers
from ...evaluation.thief import Source, Thief
from ...evaluation.workload import PreparedDraw
from ...model.heads import softmax
from ...model.training import Parameters, one_hot
from ..results import Control


@dataclass(frozen=True)
class Effort:
    """How hard a thief tries: trainings from different starts, and Adam steps as a multiple of the scenario's."""

    restarts: int
    step_factor: int


SEARCH_EFFORT = Effort(restarts=1, step_factor=1)
AUDIT_EFFORT = Effort(restarts=3, step_factor=5)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one thief achieves.

    Attributes:
        tuning, test: accuracies ``[K]`` on the tuning rows (for choices) and on the test rows (for measurements).
        scores: of the classes for tuning rows, then test rows, ``[K, targets, classes]``.
    """

    tuning: np.ndarray
    test: np.ndarray
    scores: np.ndarray


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
        """What the service tells of the thief's rows, ``[K, rows, classes]``; 0 and 1 where the scenario has it tell labels."""
        return as_told(self.victim.answer(self.victim.together("thief"), "thief's questions"), self.victim.scenario.threat.answers)

    @cached_property
    def control(self) -> Control:
        """C* on the test rows."""
        return Control("best model without loot (C*)", self.victim.workload.control(self.victim.seed, "test").accuracies)

    @cached_property
    def goals(self) -> dict[str, np.ndarray]:
        """What closed-form models explain of the thief's rows, ``[K, rows, classes]``."""
        return {LABELS: label_goal(self.labels, self.victim.n_classes), ANSWERS: log_odds(self.answers)}

    @cached_property
    def truth(self) -> np.ndarray:
        """True labels of the targets, ``[K, targets]``."""
        return np.stack([draw.target_labels for draw in self.draws])

    @property
    def n_tuning(self) -> int:
        """How many of the targets are tuning rows."""
        return len(self.draws[0].tuning_labels)

    def outcome(self, scores: np.ndarray) -> Outcome:
        """Of scores ``[K, targets, classes]``; with restarts in front, of the restart that each draw's tuning rows favour."""
        if scores.ndim == 3:
            scores = scores[None]
        found = Accuracies.of(scores.argmax(axis=-1), self.truth, self.n_tuning)
        best = found.tuning.argmax(axis=0), np.arange(len(self.draws))
        return Outcome(found.tuning[best], found.scored[best], scores[best])

    def closed_form(self, thief: Thief, source: Source) -> Outcome:
        """The best of the closed-form models that ``source`` allows; a thief without loot has those without."""
        ground = self.victim.workload.ground(self.victim.seed, "test")
        if thief.holds_any:
            queries = np.stack([draw.queries for draw in self.draws])
            readouts, sums = thief.readouts(self.victim.trained, self.rows, self.targets, queries, self.answers)
            found = stacked(ground, self.goals, readouts, sums, thief.rest(self.rows, self.targets))
        else:
            found = unaided(ground, self.goals)
        own = self.labels.shape[1]
        allowed = [scores[:, own:] for name, scores in found.items() if uses_answers(name) == (source == "queries")]
        return best_of([self.outcome(scores) for scores in allowed])

    def denoised(self, teacher: Outcome) -> Outcome:
        """The scores of ``teacher``, balanced and smoothed over all targets: errors of a model on rows that are alike are not alike.

        Every class is made equally frequent, as among the thief's rows. Then kernel ridge regressions of the scores on whitened principal
        components of the targets, Gaussian or of squares and products, see only what varies smoothly.
        """
        balanced = _balanced(teacher.scores)
        found = []
        for kind in ("gaussian", "squares"):
            kernels = np.stack([_smoothness(components(draw.raw_targets), kind) for draw in self.draws])
            for ridge in _SMOOTHING:
                weights = np.linalg.solve(kernels + ridge * np.eye(kernels.shape[-1]), balanced)
                found.append(self.outcome(kernels @ weights))
        return best_of(found)

    def self_trained(self, thief: Thief, source: Source, effort: Effort, teacher: Outcome, use: str) -> Outcome:
        """A guess of the rest that is trained on all rows that pass by, labelled by ``teacher`` where the thief has no label."""
        guessed = one_hot(teacher.scores.argmax(axis=-1), self.victim.n_classes)
        own = self.answers if source == "queries" else one_hot(self.labels, self.victim.n_classes)
        rows = ThiefRows(*(np.concatenate(pair, axis=1) for pair in zip(astuple(self.rows), astuple(self.targets), strict=True)))
        lesson = np.concatenate([own, guessed], axis=1)
        probabilities = thief.attack(
            "guessed-rest",
            self.victim.trained,
            rows,
            lesson.argmax(axis=-1),
            lesson,
            self.targets,
            self.victim.keys(f"{use}, self-trained"),
            steps=effort.step_factor * self.victim.scenario.threat.steps,
        )
        return self.outcome(probabilities)

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
        use: str = "theft",
    ) -> Outcome:
        """What ``thief`` achieves; its restarts are trained side by side.

        Args:
            thief, tier, source, effort: who steals, how, from what, and how hard it tries.
            loot: default the trained angles.
            seen: bool ``[n_qubits]``, whether it intercepts the encoding of a qubit that it holds; default all.
            use: name of this theft, which seeds it.
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


_SMOOTHING = (0.3, 3.0, 30.0)
"""Ridges, in units of the kernel's mean diagonal."""
_BALANCING_STEPS = 50


def _balanced(scores: np.ndarray) -> np.ndarray:
    """``scores`` ``[K, targets, classes]`` on the scale of logits, shifted until softmax finds every class equally often."""
    shifted = 3 * scores / np.maximum(scores.std(axis=(1, 2), keepdims=True), 1e-12)
    for _ in range(_BALANCING_STEPS):
        shifted = shifted - np.log(np.maximum(softmax(shifted).mean(axis=1, keepdims=True), 1e-9)) / 2
    return np.asarray(shifted - shifted.mean(axis=2, keepdims=True))


def _smoothness(hidden: np.ndarray, kind: str) -> np.ndarray:
    """A kernel with a mean diagonal of 1 between all rows ``hidden`` ``[rows, components]``."""
    inner = hidden @ hidden.T
    sizes = np.diag(inner)
    distances = sizes[:, None] + sizes - 2 * inner
    kernel = np.exp(-2 * distances / max(float(np.median(distances)), 1e-12)) if kind == "gaussian" else 1 + inner + inner**2
    return np.asarray(kernel / np.mean(np.diag(kernel)))


def best_of(outcomes: Sequence[Outcome]) -> Outcome:
    """The best on the tuning rows, pooled over draws."""
    return max(outcomes, key=lambda outcome: float(outcome.tuning.mean()))


def taught(
    fit: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], features: np.ndarray, labels: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Labels that the classifier ``fit`` gives ``targets``, or the only label there is."""
    return fit(features, labels, targets) if len(np.unique(labels)) > 1 else np.repeat(labels[:1], len(targets))
