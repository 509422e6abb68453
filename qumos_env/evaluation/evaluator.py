"""From a design to its reward: train it once, hand it to the terms of the reward, and join what they say."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from threadpoolctl import threadpool_limits

from ..design import Design
from ..errors import EvaluationFailure, QumosError
from ..scenario import Scenario
from . import accuracy, costs, extraction, membership, outage, theft  # for their registration
from .cache import Cache, opened
from .reward import Standing, blend_of
from .service import Service
from .statistics import jackknife_error
from .terms import Evidence, Fact, Subject, TermResult, terms_of
from .workload import ROWS, Rows, Workload

__all__ = ["Evaluation", "Evaluator", "accuracy", "checked_seed", "costs", "extraction", "membership", "outage", "theft"]

# Part of every cache key: raise it when a change alters the figures of an evaluation.
EVALUATION_VERSION = 10


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured.

    The K draws share one data set (and with ``half_split`` one pool of members), so standard errors cover the drawing of rows and of
    initial angles, not that of another data set.

    Attributes:
        design_hash, scenario, rows, seed, draws: what was evaluated, on which rows, and how often it was redrawn.
        reward, reward_se, rewards: the blend, its jackknife standard error, and its parts by term.
        measured: what the terms report, by the names that their modules document: ``accuracy``, ``theft``, ``membership_auc``, ...
            and, as ``<name>_se``, the standard errors of what was measured per draw. They can be read as attributes too.
        per_draw: name -> K values of what was measured per draw.
    """

    design_hash: str
    scenario: str
    rows: str
    seed: int
    draws: int
    reward: float
    reward_se: float
    rewards: dict[str, float]
    measured: dict[str, Fact]
    per_draw: dict[str, list[float]]

    def __getattr__(self, name: str) -> Any:
        # Only asked for what is no field. A half-made copy has no fields yet.
        measured: Mapping[str, Fact] = self.__dict__.get("measured", {})
        if name not in measured:
            raise AttributeError(f"evaluation has no {name!r}; measured were {', '.join(measured)}")
        return measured[name]

    def to_dict(self) -> dict[str, str | float | int | bool]:
        """Flat JSON scalars; named parts become ``rewards.<name>``, ``running.<name>`` and ``thieves.<provider>/<tier>``.

        What was not measured is left out.
        """
        flat: dict[str, str | float | int | bool] = {}
        fields = asdict(self)
        del fields["per_draw"]
        for name, value in (fields | fields.pop("measured")).items():
            if isinstance(value, dict):
                flat.update({f"{name}.{key}": item for key, item in value.items()})
            elif value is not None:
                flat[name] = value
        return flat

    def to_json(self) -> str:
        """Everything, as JSON that ``from_json`` reads back exactly."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """The evaluation that ``to_json`` wrote; ValueError for anything else."""
        if not math.isfinite(_READER.validate_json(text, strict=True).reward):
            raise ValueError("the reward is no number")
        # Not what was validated, in which 3 has become 3.0 where a float may stand.
        return cls(**json.loads(text))


_READER = TypeAdapter(Evaluation)


class Evaluator:
    """Evaluates designs of one scenario.

    The same scenario, design and seed give the same bits on one machine and library set: linear algebra runs on one thread.

    Args:
        scenario: the scenario.
        cache: path of an SQLite file for reuse between runs and processes, or another ``Cache``; without it results are kept in memory.

    Attributes:
        hits: evaluations that the cache had.

    Raises:
        QumosError: the scenario names a blend or weighs a term that is not registered.
    """

    def __init__(self, scenario: Scenario, cache: str | Path | Cache | None = None) -> None:
        self.scenario = scenario
        self.hits = 0
        self._blend = blend_of(scenario.reward)
        self._terms = terms_of(scenario)
        self._cache = opened(cache)
        self._rows_of: Evaluator | None = None

    def serving(self, scenario: Scenario) -> Evaluator:
        """An evaluator that shares rows, draws, controls and cache, for a scenario that differs in its providers only."""
        other = Evaluator(scenario)
        other._cache, other._rows_of = self._cache, self
        return other

    @cached_property
    def workload(self) -> Workload:
        """Data, draws and controls; loaded when first needed."""
        return Workload(self.scenario) if self._rows_of is None else self._rows_of.workload.serving(self.scenario)

    @cached_property
    def _identity(self) -> str:
        return f"{EVALUATION_VERSION}/{self.scenario.hash}/{self.workload.digest}"

    def evaluate(
        self, design: Design, *, seed: int | None = None, rows: Rows = "search", limits: bool = True, draws: int | None = None
    ) -> Evaluation:
        """Trains and attacks ``design`` on the K common redraws, or on the first few of them.

        What was measured on fewer draws is not measured again for more, as long as the cache has it; the result has the same bits.

        Args:
            design: the design.
            seed: of draws, initial angles and thieves; default the scenario's. It is never the seed of an episode.
            rows: ``search`` scores on held-out rows of each draw; ``test`` on the fixed test split, for reports only.
            limits: hold the design against the scenario's limits (references such as the centralised model are not).
            draws: how many, default all K; see ``Scenario.draw_levels``.

        Raises:
            QumosError: the design does not fit the scenario, or ``draws`` does not.
            EvaluationFailure: its training, or a thief's, diverged.
        """
        if rows not in ROWS:
            raise QumosError(f"rows is {rows!r}, choose search or test")
        self.scenario.check_design(design, limits=limits)
        seed = self.scenario.seed if seed is None else checked_seed(seed)
        count = self.scenario.draws.count if draws is None else self.scenario.checked_draws(draws)
        key = f"{self._identity}/{design.hash}/{rows}/{seed}"
        name = key if count == self.scenario.draws.count else f"{key}/{count} draws"
        found = self._cache.get(name)
        if found is not None:
            try:
                evaluation = Evaluation.from_json(found)
                self.hits += 1
                return evaluation
            except ValueError:
                pass  # an unreadable entry is measured again and replaced
        with threadpool_limits(1):
            observed = self._observed(design, seed, rows, count, key)
            evaluation = self._judged(Evidence(design, self.workload, seed, rows, self.workload.draws(seed, rows)[:count], observed))
        self._cache.put(name, evaluation.to_json())
        return evaluation

    def evaluate_levels(self, design: Design, *, seed: int | None = None) -> Iterator[tuple[Rows, int, Evaluation]]:
        """What ``evaluate`` says of ``design`` for all rows and every number of draws in ``Scenario.draw_levels``, bit for bit.

        All come from the same K trained models, for whoever wants all of them; nothing is looked up or kept. Linear algebra runs on as
        many threads as the caller allows, since asking takes as long as a tenth of an evaluation.

        Args:
            design: the design, within the scenario's limits.
            seed: as in ``evaluate``.

        Yields:
            Rows, number of draws and evaluation: those of ``search`` first, and fewer draws first.

        Raises:
            QumosError: the design does not fit the scenario.
            EvaluationFailure: its training, or a thief's, diverged.
        """
        self.scenario.check_design(design)
        seed = self.scenario.seed if seed is None else checked_seed(seed)
        service = Service.train(self.workload, design, seed)
        for rows in ROWS:
            draws = self.workload.draws(seed, rows)
            observed = {one.name: dict(one.observe(Subject(service, draws, rows))) for one in self._terms}
            for count in self.scenario.draw_levels:
                first = {name: {what: values[:count] for what, values in of.items()} for name, of in observed.items()}
                yield rows, count, self._judged(Evidence(design, self.workload, seed, rows, draws[:count], first))

    def _observed(self, design: Design, seed: int, rows: Rows, count: int, key: str) -> dict[str, dict[str, np.ndarray]]:
        """What the terms observe of the first ``count`` draws: what the cache has of them, and the rest measured."""
        known = self._known(key, count)
        if len(known) == count:
            return _joined(known)
        numbers = range(len(known), count)
        service = Service.train(self.workload, design, seed, rows, numbers)
        subject = Subject(service, self.workload.draws(seed, rows)[numbers.start : numbers.stop], rows)
        observed = {one.name: dict(one.observe(subject)) for one in self._terms}
        if count < self.scenario.draws.count:
            # Nobody goes on from all K draws.
            self._cache.put_all({f"{key}/draw {number}": _as_text(observed, place) for place, number in enumerate(numbers)})
        return observed if not known else _joined([*known, *(_of_draw(observed, place) for place in range(len(numbers)))])

    def _known(self, key: str, count: int) -> list[_Observations]:
        """What the cache has of the first draws, up to the first that it lacks."""
        found: list[_Observations] = []
        for number in range(count):
            text = self._cache.get(f"{key}/draw {number}")
            if text is None:
                break
            try:
                one = {name: {what: np.asarray(values, float) for what, values in of.items()} for name, of in json.loads(text).items()}
            except (ValueError, TypeError, AttributeError):
                break  # an unreadable entry is measured again and replaced
            if one.keys() != {term.name for term in self._terms} or (found and _shapes(one) != _shapes(found[0])):
                break
            found.append(one)
        return found

    def _judged(self, evidence: Evidence) -> Evaluation:
        results = {one.name: one.judge(evidence, evidence.observed[one.name]) for one in self._terms}
        rewards = self._shares(evidence, results, np.ones(len(evidence.draws), bool))
        reward = sum(rewards.values())
        if not np.isfinite(reward):
            raise EvaluationFailure(f"the reward is {reward}")
        units = evidence.units
        left_out = range(units[-1] + 1) if units[-1] > 0 else ()
        leave_one_out = [sum(self._shares(evidence, results, units != unit).values()) for unit in left_out]
        measured: dict[str, Fact] = {}
        per_draw: dict[str, list[float]] = {}
        for result in results.values():
            for name, values in result.draws.items():
                measured[name], measured[f"{name}_se"] = float(values.mean()), evidence.standard_error(values)
                per_draw[name] = values.tolist()
            measured.update(result.facts)
        return Evaluation(
            design_hash=evidence.design.hash,
            scenario=self.scenario.name,
            rows=evidence.rows,
            seed=evidence.seed,
            draws=len(evidence.draws),
            reward=float(reward),
            reward_se=jackknife_error(np.array(leave_one_out)),
            rewards=rewards,
            measured=measured,
            per_draw=per_draw,
        )

    def _shares(self, evidence: Evidence, results: Mapping[str, TermResult], keep: np.ndarray) -> dict[str, float]:
        """The parts of the reward from the draws in ``keep``, bool ``[K]``."""
        standing = Standing(float(evidence.accuracy[keep].mean()), evidence.chance, self._blend)
        parts = {}
        for name, result in results.items():
            means = {key: float(values[keep].mean()) for key, values in result.draws.items()}
            parts[name] = self.scenario.reward.weight(name) * result.share(standing, means)
        return parts


_Observations = dict[str, dict[str, np.ndarray]]
"""By the terms' names; of one draw, or with a leading axis of several."""


def _of_draw(observed: _Observations, place: int) -> _Observations:
    return {name: {what: values[place] for what, values in of.items()} for name, of in observed.items()}


def _as_text(observed: _Observations, place: int) -> str:
    return json.dumps({name: {what: values[place].tolist() for what, values in of.items()} for name, of in observed.items()})


def _shapes(observed: _Observations) -> dict[tuple[str, str], tuple[int, ...]]:
    return {(name, what): values.shape for name, of in observed.items() for what, values in of.items()}


def _joined(draws: Sequence[_Observations]) -> _Observations:
    return {name: {what: np.stack([one[name][what] for one in draws]) for what in of} for name, of in draws[0].items()}


def checked_seed(seed: int) -> int:
    """``seed`` as a plain integer; QumosError for anything but a whole number from 0."""
    try:
        value = operator.index(seed)
    except TypeError:
        value = -1
    if value < 0:
        raise QumosError(f"the evaluation seed is {seed!r}, a whole number from 0 is needed")
    return value
