"""From a design to its reward: train it, attack it, and report what was measured."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from ..design import Design
from ..errors import EvaluationFailure, QumosError
from ..model.qnn import DistributedQNN
from ..model.training import Parameters
from ..scenario import Scenario
from .cache import EvaluationCache
from .controls import CLONE_LAYERS, reference_qnn
from .costs import running_costs
from .membership import leave_pair_out, lira_online, loss_scores
from .outage import outage_answers
from .reward import Measured, check_blend, reward_parts
from .roc import auc
from .theft import Thief, ThiefRows
from .workload import PreparedDraw, Rows, Workload, split_accuracy

# Part of every cache key: raise it when a change alters the figures of an evaluation.
EVALUATION_VERSION = 5
QUERIES_ONLY = "queries only"  # no provider can have this name
# Numbers of questions to the service, behind those of rows that every evaluation asks.
_OUTAGE_USE, _CLONE_USE = 100, 101
GATE_CUT_OVERHEAD = 9  # shots per cut, the same for every cut angle


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured. Accuracies and AUCs are in [0, 1]; ``_se`` is the standard error over the K draws.

    The K draws share one data set (and with ``half_split`` one pool of members), so these errors cover the drawing of rows and
    of initial angles, not that of another data set.

    Attributes:
        design_hash, scenario, rows, seed, draws: what was evaluated, on which rows, and how often it was redrawn.
        reward, reward_se, rewards: the blend, its jackknife standard error, and its named parts.
        accuracy, accuracy_se, chance: of the owner's model; ``chance`` is the majority frequency of the scored rows.
        theft, theft_se, theft_provider, theft_tier: the strongest thief (chosen on tuning rows, scored on others).
        control, control_name: C*, what the thief's rows alone give.
        query_control: what its rows and the service's answers to them give without loot, by the tier ``guessed-rest`` with
            everything guessed; it depends on the design, so it is no part of a reward, and is measured on the test rows only.
        nothing_worth_stealing: the owner's model is not two standard errors better than the control.
        membership_auc, membership_auc_se: of the scenario's membership attack. With LiRA the draws are each other's shadows, which makes
            the standard error too small by up to the square root of two.
        extraction: accuracy of a clone trained on the service's answers to the tuning rows, and ``fallback``, that of the owner without
            the provider whose outage costs most on the tuning rows (``fallback_provider``); where the reward weighs them.
        cost: of the design, in the reward's unit.
        running: estimates from the profiles of the providers' devices, see ``RunningCosts``; native gates are counted in a search and
            transpiled for the test rows. Empty where a provider names no device.
        thieves: ``provider/tier`` -> accuracy.
        per_draw: name -> K values, of ``accuracy``, ``theft``, ``control``, ``membership_auc``.
    """

    design_hash: str
    scenario: str
    rows: str
    seed: int
    draws: int
    reward: float
    reward_se: float
    rewards: dict[str, float]
    accuracy: float
    accuracy_se: float
    chance: float
    theft: float
    theft_se: float
    theft_provider: str
    theft_tier: str
    control: float
    control_name: str
    query_control: float | None
    nothing_worth_stealing: bool
    membership_auc: float
    membership_auc_se: float
    extraction: float | None
    fallback: float | None
    fallback_provider: str | None
    cost: float
    running: dict[str, float]
    thieves: dict[str, float]
    per_draw: dict[str, list[float]]

    @property
    def theft_gain(self) -> float:
        """T − C*: what the loot adds to the thief's own rows."""
        return self.theft - self.control

    def to_dict(self) -> dict[str, str | float | int | bool]:
        """Flat JSON scalars; named parts become ``rewards.<name>``, ``running.<name>`` and ``thieves.<provider>/<tier>``.

        What was not measured is left out.
        """
        flat: dict[str, str | float | int | bool] = {"theft_gain": self.theft_gain}
        for name, value in asdict(self).items():
            if name == "per_draw" or value is None:
                continue
            if isinstance(value, dict):
                flat.update({f"{name}.{key}": item for key, item in value.items()})
            else:
                flat[name] = value
        return flat

    def to_json(self) -> str:
        """Everything, as JSON that ``from_json`` reads back exactly."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """The evaluation that ``to_json`` wrote; ValueError or TypeError for anything else."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class _DrawResult:
    """Of one draw; of thieves and outages the accuracies on tuning rows and on scored rows."""

    accuracy: float
    chance: float
    auc: float
    thieves: dict[tuple[str, str], tuple[float, float]]
    outages: dict[str, tuple[float, float]]
    extraction: float | None


class Evaluator:
    """Evaluates designs of one scenario.

    The same scenario, design and seed give the same bits on one machine and library set: linear algebra runs on one thread.

    Args:
        scenario: the scenario.
        cache: path of an SQLite file for reuse between runs and processes; without it results are kept in memory.
    """

    def __init__(self, scenario: Scenario, cache: str | Path | None = None) -> None:
        check_blend(scenario.reward)
        self.scenario = scenario
        self._cache = EvaluationCache(cache)
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

    def evaluate(self, design: Design, *, seed: int | None = None, rows: Rows = "search", limits: bool = True) -> Evaluation:
        """Trains and attacks ``design`` on the K common redraws.

        Args:
            design: the design.
            seed: of draws, initial angles and thieves; default the scenario's. It is never the seed of an episode.
            rows: ``search`` scores on held-out rows of each draw; ``test`` on the fixed test split, for reports only.
            limits: hold the design against the scenario's limits (references such as the centralised model are not).

        Raises:
            QumosError: the design does not fit the scenario.
            EvaluationFailure: its training, or a thief's, diverged.
        """
        if rows not in ("search", "test"):
            raise QumosError(f"rows is {rows!r}, choose search or test")
        self.scenario.check_design(design, limits=limits)
        seed = self.scenario.seed if seed is None else checked_seed(seed)
        key = f"{self._identity}/{design.hash}/{rows}/{seed}"
        found = self._cache.get(key)
        if found is not None:
            try:
                return Evaluation.from_json(found)
            except (ValueError, TypeError):
                pass  # an unreadable entry is measured again and replaced
        with threadpool_limits(1):
            evaluation = self._measure(design, seed, rows)
        self._cache.put(key, evaluation.to_json())
        return evaluation

    def _measure(self, design: Design, seed: int, rows: Rows) -> Evaluation:
        scenario, workload = self.scenario, self.workload
        model = workload.model(design)
        thieves = [
            Thief(design, coalition, workload.n_classes, scenario.model, scenario.threat, scenario.data.axis)
            for coalition in combinations(scenario.provider_names, scenario.threat.coalition)
            if any(design.held_by(provider) for provider in coalition)
        ]
        control = workload.control(seed, rows)
        if rows == "test":
            thieves.append(Thief(design, QUERIES_ONLY, workload.n_classes, scenario.model, scenario.threat, scenario.data.axis))
        results = self._measure_draws(model, thieves, workload.draws(seed, rows))
        query_control = None
        if rows == "test":
            query_control = float(np.mean([result.thieves.pop((QUERIES_ONLY, "guessed-rest"))[1] for result in results]))

        accuracy = np.array([result.accuracy for result in results])
        aucs = np.array([result.auc for result in results])
        # Chosen on the tuning rows pooled over draws, so that the maximum over thieves is not inflated by the scored rows.
        strongest = max(results[0].thieves, key=lambda thief: np.mean([result.thieves[thief][0] for result in results]))
        theft = np.array([result.thieves[strongest][1] for result in results])
        chance = float(np.mean([result.chance for result in results]))
        clones = None if results[0].extraction is None else np.array([result.extraction for result in results])
        worst_outage, fallbacks = None, None
        if results[0].outages:
            worst_outage = min(results[0].outages, key=lambda provider: np.mean([result.outages[provider][0] for result in results]))
            fallbacks = np.array([result.outages[worst_outage][1] for result in results])
        estimates = running_costs(design, scenario, quick=rows == "search")
        running = {} if estimates is None else estimates.to_dict()
        cost_unit = scenario.reward.cost_unit
        cost = design_cost(design, scenario) if cost_unit == "gates" else running[f"query_{cost_unit}"]

        def parts(keep: np.ndarray) -> dict[str, float]:
            stolen, cloned = float(theft[keep].mean()), None if clones is None else float(clones[keep].mean())
            if scenario.threat.thief == "rational":
                without_loot = float(control.accuracies[keep].mean())
                stolen, cloned = max(stolen, without_loot), None if cloned is None else max(cloned, without_loot)
            measured = Measured(
                float(accuracy[keep].mean()),
                stolen,
                chance,
                float(aucs[keep].mean()),
                cost / scenario.reward.cost_budget,
                cloned,
                None if fallbacks is None else float(fallbacks[keep].mean()),
            )
            return reward_parts(measured, scenario.reward)

        everything = np.ones(len(results), bool)
        rewards = parts(everything)
        # With half_split the two draws of a pair share their pool, one's members being the other's non-members: one unit.
        unit = np.arange(len(results)) // (2 if scenario.draws.half_split else 1)
        left_out = range(unit[-1] + 1) if unit[-1] > 0 else ()
        leave_one_out = [sum(parts(everything & (unit != k)).values()) for k in left_out]
        advantage = accuracy - control.accuracies
        return Evaluation(
            design_hash=design.hash,
            scenario=scenario.name,
            rows=rows,
            seed=seed,
            draws=len(results),
            reward=_finite(sum(rewards.values())),
            reward_se=_jackknife(np.array(leave_one_out)),
            rewards=rewards,
            accuracy=float(accuracy.mean()),
            accuracy_se=_standard_error(accuracy, unit),
            chance=chance,
            theft=float(theft.mean()),
            theft_se=_standard_error(theft, unit),
            theft_provider=strongest[0],
            theft_tier=strongest[1],
            control=float(control.accuracies.mean()),
            control_name=control.name,
            query_control=query_control,
            nothing_worth_stealing=bool(advantage.mean() < 2 * _standard_error(advantage, unit)),
            membership_auc=float(aucs.mean()),
            membership_auc_se=_standard_error(aucs, unit),
            extraction=None if clones is None else float(clones.mean()),
            fallback=None if fallbacks is None else float(fallbacks.mean()),
            fallback_provider=worst_outage,
            cost=cost,
            running=running,
            thieves={"/".join(thief): float(np.mean([result.thieves[thief][1] for result in results])) for thief in results[0].thieves},
            per_draw={
                "accuracy": accuracy.tolist(),
                "theft": theft.tolist(),
                "control": control.accuracies.tolist(),
                "membership_auc": aucs.tolist(),
            },
        )

    def _measure_draws(self, model: DistributedQNN, thieves: list[Thief], draws: Sequence[PreparedDraw]) -> list[_DrawResult]:
        """Trains and attacks on all draws side by side: the same circuits K times."""

        def together(name: str) -> np.ndarray:
            return np.stack([getattr(draw, name) for draw in draws])

        trained = model.train_many(together("train"), together("train_labels"), [draw.key for draw in draws])
        # Everyone meets the service as it runs, with the design's shots; training and the thief's own runs are exact.
        scored, members, others, answers = (
            model.answers(trained, together(name), [(*draw.key, use) for draw in draws])
            for use, name in enumerate(("score", "train", "nonmembers", "queries"))
        )
        rows = ThiefRows.stack([draw.thief for draw in draws])
        targets = ThiefRows.stack([draw.targets for draw in draws])
        labels = together("thief_labels")
        stolen: list[dict[tuple[str, str], tuple[float, float]]] = [{} for _ in draws]
        for number, thief in enumerate(thieves):
            keys = [(*draw.key, number) for draw in draws]
            tiers: Sequence[str] = thief.tiers(self.scenario.threat.tiers) if thief.provider != QUERIES_ONLY else ("guessed-rest",)
            for tier in tiers:
                predicted = thief.attack(tier, trained, rows, labels, answers, targets, keys).argmax(axis=-1)
                for draw, mine, found in zip(draws, predicted, stolen, strict=True):
                    found[thief.provider, tier] = split_accuracy(mine, draw)
        inside, outside = (
            np.stack([loss_scores(one, getattr(draw, labels)) for one, draw in zip(found, draws, strict=True)])
            for found, labels in ((members, "train_labels"), (others, "nonmember_labels"))
        )
        aucs = self._lira(inside, outside, draws) if self.scenario.threat.membership == "lira" else list(map(auc, inside, outside))
        outages = self._outages(model, trained, draws) if self.scenario.reward.resilience else [{} for _ in draws]
        clones = self._clones(model, trained, draws) if self.scenario.reward.extraction else [None for _ in draws]
        return [
            _DrawResult(
                accuracy=float(np.mean(scored[k].argmax(axis=1) == draw.score_labels)),
                chance=float(np.bincount(draw.score_labels).max() / len(draw.score_labels)),
                auc=aucs[k],
                thieves=stolen[k],
                outages=outages[k],
                extraction=clones[k],
            )
            for k, draw in enumerate(draws)
        ]

    @staticmethod
    def _lira(inside: np.ndarray, outside: np.ndarray, draws: Sequence[PreparedDraw]) -> list[float]:
        """AUC per draw of LiRA with the other draws as shadow models: ``half_split`` trained all on halves of one pool."""
        pool = np.union1d(draws[0].train_rows, draws[0].nonmember_rows)
        losses = np.empty((len(draws), len(pool)))
        member = np.zeros(losses.shape, bool)
        for k, draw in enumerate(draws):
            at = np.searchsorted(pool, draw.train_rows)
            losses[k, at], losses[k, np.searchsorted(pool, draw.nonmember_rows)] = inside[k], outside[k]
            member[k, at] = True
        found = []
        for target, shadows in leave_pair_out(len(draws)):
            scores = lira_online(losses[target], losses[shadows], member[shadows])
            found.append(auc(scores[member[target]], scores[~member[target]]))
        return found

    def _outages(self, model: DistributedQNN, trained: Parameters, draws: Sequence[PreparedDraw]) -> list[dict[str, tuple[float, float]]]:
        """Per draw and provider, what the owner's fallback achieves without it: the missing readouts at their training mean."""
        rows = np.stack([np.concatenate([draw.tuning, draw.score]) for draw in draws])
        train = np.stack([draw.train for draw in draws])
        labels = np.stack([draw.train_labels for draw in draws])
        answers = outage_answers(model, trained, train, labels, rows, [(*draw.key, _OUTAGE_USE) for draw in draws], "mean")
        predicted = {provider: given.argmax(axis=-1) for provider, given in answers.items()}
        return [{provider: split_accuracy(mine[k], draw) for provider, mine in predicted.items()} for k, draw in enumerate(draws)]

    def _clones(self, model: DistributedQNN, trained: Parameters, draws: Sequence[PreparedDraw]) -> list[float]:
        """Accuracy per draw of a clone that a customer trains on the service's answers to the tuning rows."""
        answers = model.answers(trained, np.stack([draw.tuning for draw in draws]), [(*draw.key, _CLONE_USE) for draw in draws])
        clone = reference_qnn(self.scenario, self.workload.n_classes, CLONE_LAYERS)
        queries = np.stack([draw.clone_queries for draw in draws])
        keys = [(*draw.key, _CLONE_USE) for draw in draws]
        cloned = clone.train_towards(queries, answers, keys, steps=self.scenario.threat.steps)
        predicted = clone.probabilities(cloned, np.stack([draw.clone_score for draw in draws])).argmax(axis=-1)
        return [float(np.mean(mine == draw.score_labels)) for mine, draw in zip(predicted, draws, strict=True)]


def checked_seed(seed: int) -> int:
    """``seed`` as a plain integer; QumosError for anything but a whole number from 0."""
    try:
        value = operator.index(seed)
    except TypeError:
        value = -1
    if value < 0:
        raise QumosError(f"the evaluation seed is {seed!r}, a whole number from 0 is needed")
    return value


def design_cost(design: Design, scenario: Scenario) -> float:
    """Qubits acted on by every gate, times the provider's price, 9-fold per gate cut; a scenario with shots charges per 1,000."""
    price = [scenario.provider(name).price for name in design.assignment]
    local = sum(price[design.partition[qubit]] for gate in design.gates for qubit in gate.qubits)
    return float(local * GATE_CUT_OVERHEAD ** len(design.cut_gates) * (1.0 if design.shots is None else design.shots / 1000))


def _standard_error(values: np.ndarray, unit: np.ndarray) -> float:
    """Standard error of the mean over the units (draws, or pairs of them) that count as independent; 0 for a single one."""
    means = np.bincount(unit, values) / np.bincount(unit)
    return float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else 0.0


def _jackknife(leave_one_out: np.ndarray) -> float:
    """Jackknife standard error (Tukey, 1958) from the K leave-one-out estimates; 0 where there are none (a single draw)."""
    k = len(leave_one_out)
    return float(np.sqrt((k - 1) / k * np.sum((leave_one_out - leave_one_out.mean()) ** 2))) if k > 1 else 0.0


def _finite(value: float) -> float:
    if not np.isfinite(value):
        raise EvaluationFailure(f"the reward is {value}")
    return float(value)
