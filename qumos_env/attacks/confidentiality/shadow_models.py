"""Shadow models: the victim's design trained again on known rows, to see what membership does to a row's answer.

M models are trained side by side on balanced halves of one pool of rows, in pairs 2j, 2j + 1 that swap the halves. Each model
is the target once, and the other pairs are its shadows. Its twin is left out as well: a member of the target is always out of
the twin, so that with it members would have a shadow less *in* than non-members. Their medians would be noisier, and scores
of models that learned nothing would be told apart (AUC .48 with 16 models, .46 with 8, .42 with 4). Without the twin every row is in
and out of exactly M/2 − 1 shadows, and pure noise gives ½.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...data import Preprocessor
from ...data.protocol import LEAST_HALVES
from ...design import Design
from ...errors import QumosError
from ...evaluation.membership import label_probabilities, leave_pair_out, lira_offline, lira_online, loss_scores, rmia
from ...evaluation.service import Service
from ...evaluation.workload import Workload
from ...model.qnn import QNN
from ...model.training import Parameters
from ...seeds import label

DEFAULT_SHADOWS = 16


@dataclass(frozen=True, eq=False)
class Shadows:
    """M models of one design on balanced halves of a pool; models 2j and 2j + 1 have swapped halves.

    Attributes:
        workload: data set of the scenario.
        model: the design as a model.
        trained: parameters of the M models, with a leading axis.
        preprocessors: one per model, fitted on its half as the owner fits its own.
        keys: seeds of the models' shots.
        pool: row numbers ``[P]``.
        member: bool ``[M, P]``, which of them trained the model.
        population: row numbers ``[Z]`` that trained none, from outside the test split.
    """

    workload: Workload
    model: QNN
    trained: Parameters
    preprocessors: tuple[Preprocessor, ...]
    keys: tuple[tuple[int, ...], ...]
    pool: np.ndarray
    member: np.ndarray
    population: np.ndarray

    def __post_init__(self) -> None:
        _checked_count(len(self.member))
        if self.member.shape[1:] != self.pool.shape or not np.array_equal(self.member[::2], ~self.member[1::2]):
            raise QumosError("shadow models: members and non-members of every second model must be those of its twin swapped")
        if np.isin(self.population, self.pool).any():
            raise QumosError("shadow models: population rows must not be rows of the pool")

    @classmethod
    def train(cls, workload: Workload, design: Design, seed: int, count: int = DEFAULT_SHADOWS, train_rows: int | None = None) -> Shadows:
        """Trains ``count`` models of ``design`` at once.

        Args:
            workload: data set of the scenario.
            design: what is trained.
            seed: of pool, halves and initial angles.
            count: M, even, 4 or more.
            train_rows: rows of a half, default those of a draw.

        Raises:
            QumosError: ``count`` or ``train_rows`` is more than the data supports, see ``DataProtocol.balanced_halves``.
            EvaluationFailure: a training diverged.
        """
        features, labels = workload.protocol.dataset.features, workload.protocol.observed_labels
        halves = workload.protocol.balanced_halves(seed, count, train_rows)
        rows = np.stack([halves.pool[inside] for inside in halves.member])
        preprocessors = tuple(workload.owner(half) for half in rows)
        inputs = np.stack([fitted.transform(features[half]) for fitted, half in zip(preprocessors, rows, strict=True)])
        model = workload.model(design)
        keys = tuple((seed, index, label("shadow models")) for index in range(count))
        trained = model.train_many(inputs, labels[rows], keys)
        return cls(workload, model, trained, preprocessors, keys, halves.pool, halves.member, halves.outside)

    @classmethod
    def of(cls, victim: Service) -> Shadows:
        """The victim's own K models, which ``half_split`` trained on swapped halves of one pool; nothing is trained.

        Raises:
            QumosError: the scenario has no ``half_split``, or K is below 4.
        """
        if not victim.scenario.draws.half_split:
            raise QumosError(f"scenario {victim.scenario.name}: draws without half_split cannot serve as shadow models")
        trained_on = [draw.train for draw in victim.rows]
        pool = np.union1d(trained_on[0], trained_on[1])
        member = np.stack([np.isin(pool, rows) for rows in trained_on])
        population = np.setdiff1d(victim.workload.protocol.rest, pool)
        keys = tuple((victim.seed, index, label("shadow models")) for index in range(len(victim.rows)))
        return cls(victim.workload, victim.model, victim.trained, victim.preprocessors, keys, pool, member, population)

    @classmethod
    def against(cls, victim: Service, count: int = DEFAULT_SHADOWS) -> Shadows:
        """At least ``count`` shadow models: the victim's own where its draws can serve, else newly trained ones.

        Raises:
            QumosError, EvaluationFailure: see ``train``.
        """
        if victim.scenario.draws.half_split and len(victim.rows) >= count:
            return cls.of(victim)
        return cls.train(victim.workload, victim.design, victim.seed, count)

    def answers(self, rows: np.ndarray, use: str) -> np.ndarray:
        """What the models answer to row numbers ``rows`` ``[R]`` as a service: ``[M, R, classes]``; ``use`` names the question."""
        features = self.workload.protocol.dataset.features[rows]
        inputs = np.stack([fitted.transform(features) for fitted in self.preprocessors])
        return self.model.answers(self.trained, inputs, [(*key, label(use)) for key in self.keys])

    def signals(self) -> Signals:
        """What the models say of the rows of the pool and of the population."""
        labels = self.workload.protocol.observed_labels
        answers = self.answers(self.pool, "pool")
        return Signals(
            losses=loss_scores(answers, labels[self.pool]),
            sure=label_probabilities(answers, labels[self.pool]),
            population=label_probabilities(self.answers(self.population, "population"), labels[self.population]),
            member=self.member,
        )


@dataclass(frozen=True, eq=False)
class Signals:
    """What M models say of the P rows of their pool, and of Z rows that trained none; models 2j and 2j + 1 are twins.

    Attributes:
        losses: ``loss_scores`` ``[M, P]``.
        sure: ``label_probabilities`` ``[M, P]``.
        population: the same of the population rows, ``[M, Z]``.
        member: bool ``[M, P]``, which rows trained the model.
    """

    losses: np.ndarray
    sure: np.ndarray
    population: np.ndarray
    member: np.ndarray

    def of(self, models: np.ndarray) -> Signals:
        """Those of the models numbered ``models``."""
        return Signals(self.losses[models], self.sure[models], self.population[models], self.member[models])


ShadowScore = Callable[[Signals, int, np.ndarray], np.ndarray]


def _online(signals: Signals, target: int, others: np.ndarray) -> np.ndarray:
    return lira_online(signals.losses[target], signals.losses[others], signals.member[others])


def _offline(signals: Signals, target: int, others: np.ndarray) -> np.ndarray:
    return lira_offline(signals.losses[target], signals.losses[others], signals.member[others])


def _rmia(signals: Signals, target: int, others: np.ndarray) -> np.ndarray:
    population = signals.population
    return rmia(signals.sure[target], signals.sure[others], signals.member[others], population[target], population[others])


SHADOW_SCORES: dict[str, ShadowScore] = {"LiRA online": _online, "LiRA offline": _offline, "RMIA": _rmia}
"""Scores ``[P]`` of the pool's rows at one model, given the numbers of its shadows."""


def shadow_scores(signals: Signals, score: ShadowScore) -> np.ndarray:
    """Membership scores ``[M, P]`` of the pool's rows at every model, its shadows being the other pairs.

    Raises:
        QumosError: fewer than four models, or an odd number.
    """
    count = _checked_count(len(signals.member))
    return np.stack([score(signals, target, others) for target, others in leave_pair_out(count)])


def pair_jackknife(signals: Signals, statistics: Callable[[Signals], np.ndarray]) -> np.ndarray:
    """Pseudo-values ``[M/2, ...]`` of ``statistics`` ``[...]``, one per pair of models: their mean is the statistics of all models.

    The targets share their shadows, so values per target are no independent units: for models that learned nothing the variance
    of LiRA's mean AUC is twice what their spread suggests. Here a pair is left out as target *and* as shadow, and the spread
    of the pseudo-values is the jackknife's (Tukey, 1958), which errs on the wide side. With four models, where no pair can be
    spared, there is one value and so no interval.

    Raises:
        QumosError: see ``shadow_scores``.
    """
    models = np.arange(_checked_count(len(signals.member)))
    pairs = len(models) // 2
    everything = statistics(signals)
    if pairs < 3:
        return everything[None]
    without = np.stack([statistics(signals.of(models[models // 2 != pair])) for pair in range(pairs)])
    values = everything + (pairs - 1) * (without.mean(axis=0) - without)
    # Where fewer rows than all cannot resolve a statistic, it stands alone, without an interval.
    values[0] = np.where(np.isnan(without).any(axis=0), everything, values[0])
    return values


def _checked_count(count: int) -> int:
    if count < LEAST_HALVES or count % 2:
        raise QumosError(f"the number of shadow models is {count}, an even number from {LEAST_HALVES} is needed")
    return count
