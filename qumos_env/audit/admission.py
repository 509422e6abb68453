"""Admission of a scenario: is its reward a measurement, does it carry over to the test split, is there anything to find or to steal?

A scenario whose reward differences are training noise rewards luck, and one in which everybody has the model anyway rewards nothing.
``check`` measures that over random designs and several evaluation seeds; the figures are kept in the scenario's file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import spearmanr

from ..attacks.confidentiality.stealing import Effort
from ..attacks.confidentiality.theft import strongest_thief
from ..design import Design
from ..design.ansatz import contiguous, encode_only, interleaved, ry_cz_ry
from ..env.random_designs import random_design, textbook_design
from ..errors import EvaluationFailure, QumosError
from ..evaluation.evaluator import Evaluation, Evaluator
from ..evaluation.service import Service
from ..evaluation.workload import Rows
from ..scenario import Scenario
from ..scenario.scenario import MIN_ADVANTAGE
from .processes import Progress, in_processes, silent

MIN_RELIABILITY = 0.7
MIN_TEST_CORRELATION = 0.6
MAX_TRIVIAL_SHARE = 0.5
MIN_LEAK = 0.02  # mean AUC over designs above ½: several standard errors with the draws and designs of a check
MIN_LOOT_WORTH, MIN_LOOT_ERRORS = 0.05, 3.0
ACCURATE_SHARE = 0.4
MIN_THEFT_RELIABILITY, MIN_THEFT_SPREAD, MIN_AGREEMENT = 0.7, 0.03, 0.6
MAX_THEFT_GAP, MAX_SINGLE_THEFT_GAP = 0.02, 0.05  # of the accuracy of the audit's thief over that of the reward's
# Of the audits behind a check, which are many: no restarts, and twice the thieves' steps.
EFFORT = Effort(restarts=1, step_factor=2)
_MOST_DRAWS_PER_DESIGN = 100
# Evaluation seeds of the check; searches use the scenario's own seed and reports others.
SEARCH_SEEDS = (101, 102, 103)
TEST_SEEDS = (201, 202)
BEST_SEEDS = (201, 202, 203, 204, 205)
AUDIT_SEED = 301


@dataclass(frozen=True)
class Admission:
    """What a check measured.

    Attributes:
        designs, seeds: random designs and evaluation seeds behind the figures.
        reliability: between-design variance of the K-mean reward over its total variance (one-way ICC).
        test_correlation: Pearson correlation of one seed's search reward with the test reward under fresh seeds.
        trivial_reward: test reward of the encoder with one idle rotation.
        best_reward, best_accuracy, best_theft: test figures of the best known design (of hand-made and checked ones).
        control: C* on the test split.
        advantage: standard errors by which the best known model's accuracy exceeds C*.
        membership_auc, membership_reliability: mean AUC over designs, and its between-design share of variance.
        loot_worth, loot_errors: what the audit's thief of a centralised model, who holds all of it, has over the audit's control: the mean,
            and in standard errors. Of the hand-made ansätze the most accurate is taken.
        theft_reliability, theft_spread: intraclass correlation and standard deviation of the theft score among the ``ACCURATE_SHARE`` of
            the designs that are most accurate.
        theft_agreement: rank correlation among them of the theft score and the audit's.
        theft_gap, theft_gap_largest: by how much the audit's thief is more accurate than the reward's, over them, the hand-made designs and
            the centralised one under one seed: the mean, and the largest.
        accuracy_correlation: rank correlation of reward and accuracy over all random designs.
        passed: whether the scenario may be shipped for comparisons; ``reason`` says why not.
    """

    designs: int
    seeds: int
    reliability: float
    test_correlation: float
    trivial_reward: float
    best_reward: float
    best_accuracy: float
    best_theft: float
    control: float
    advantage: float
    membership_auc: float
    membership_reliability: float
    loot_worth: float
    loot_errors: float
    theft_reliability: float
    theft_spread: float
    theft_agreement: float
    theft_gap: float
    theft_gap_largest: float
    accuracy_correlation: float
    passed: bool
    reason: str

    def to_dict(self) -> dict[str, float | int | str | bool]:
        """Figures rounded for the scenario's file, without those that were not measured."""
        found = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}
        return {key: value for key, value in found.items() if value == value}


def handmade(scenario: Scenario) -> dict[str, Design]:
    """RY-CZ-RY ansätze of one to three layers within the scenario's limits, contiguous and interleaved."""
    names = scenario.provider_names
    parts = min(len(names), scenario.design.max_parts, scenario.design.qubits)
    designs = {}
    for layout, partition in (("contiguous", contiguous), ("interleaved", interleaved)):
        for layers in (1, 2, 3):
            design = ry_cz_ry(partition(scenario.design.qubits, parts), names[:parts], layers)
            try:
                scenario.check_design(design)
            except QumosError:
                continue  # does not fit this scenario's limits
            designs[f"{layout}-{layers}"] = design
    return designs


def check(
    scenario: Scenario,
    *,
    designs: int = 50,
    workers: int = 1,
    seed: int = 0,
    on_progress: Progress = silent,
    on_audit: Progress = silent,
) -> Admission:
    """Measures ``scenario`` over ``designs`` random designs, half of them textbook ansätze on random partitions.

    ``on_progress(done, total)`` counts evaluations, ``on_audit`` likewise the audits of accurate designs that follow where the reward
    weighs theft.
    """
    generator = np.random.default_rng(seed)
    drawn: dict[str, Design] = {}
    for number in range(_MOST_DRAWS_PER_DESIGN * designs):
        # Half as an agent draws that has learned nothing, half as an engineer begins: those are accurate, and differ in what they leak.
        design = (random_design if number % 2 else textbook_design)(scenario, generator)
        drawn[design.hash] = design
        if len(drawn) == designs:
            break
    else:
        raise QumosError(f"scenario {scenario.name}: only {len(drawn)} different random designs found, {designs} are needed")
    random = list(drawn.values())
    known = list(handmade(scenario).values())
    n_parts = len(next(iter(known)).assignment) if known else 1
    trivial = encode_only(contiguous(scenario.design.qubits, n_parts), scenario.provider_names[:n_parts])

    jobs: list[tuple[Design, int, Rows]] = [(design, s, "search") for design in random for s in SEARCH_SEEDS]
    jobs += [(design, s, "test") for design in random for s in TEST_SEEDS]
    jobs += [(design, s, "test") for design in [*known, trivial] for s in BEST_SEEDS]
    results = dict(zip([(d.hash, s, r) for d, s, r in jobs], in_processes(scenario, _evaluate, jobs, workers, on_progress), strict=True))
    # The best random designs by search reward get the same seeds as the hand-made ones before they may count as best known.
    finalists = sorted(random, key=lambda d: -np.mean([results[d.hash, s, "search"].reward for s in SEARCH_SEEDS]))[:3]
    extra: list[tuple[Design, int, Rows]] = [(d, s, "test") for d in finalists for s in BEST_SEEDS if (d.hash, s, "test") not in results]
    results |= dict(zip([(d.hash, s, r) for d, s, r in extra], in_processes(scenario, _evaluate, extra, workers, silent), strict=True))

    rewards = np.array([[results[d.hash, s, "search"].reward for s in SEARCH_SEEDS] for d in random])
    aucs = np.array([[results[d.hash, s, "search"].membership_auc for s in SEARCH_SEEDS] for d in random])
    tests = np.array([np.mean([results[d.hash, s, "test"].reward for s in TEST_SEEDS]) for d in random])

    def on_test(design: Design) -> list[Evaluation]:
        return [results[design.hash, s, "test"] for s in BEST_SEEDS]

    best = max([*known, *finalists], key=lambda d: np.mean([e.reward for e in on_test(d)]))
    best_reward = float(np.mean([e.reward for e in on_test(best)]))
    trivial_reward = float(np.mean([e.reward for e in on_test(trivial)]))
    accurate = max([*known, *finalists], key=lambda d: np.mean([e.accuracy for e in on_test(d)]))
    gains = np.concatenate([np.array(e.per_draw["accuracy"]) - np.array(e.per_draw["control"]) for e in on_test(accurate)])
    advantage = float(gains.mean() / max(gains.std(ddof=1) / np.sqrt(len(gains)), 1e-9)) if len(gains) > 1 else 0.0
    accuracies, thefts = (
        np.array([[getattr(results[d.hash, s, "search"], name) for s in SEARCH_SEEDS] for d in random]) for name in ("accuracy", "theft")
    )
    figures = {
        "reliability": intraclass_correlation(rewards),
        "test_correlation": float(np.mean([_correlation(rewards[:, column], tests) for column in range(rewards.shape[1])])),
        "trivial_reward": trivial_reward,
        "best_reward": best_reward,
        "best_accuracy": float(np.mean([e.accuracy for e in on_test(best)])),
        "best_theft": float(np.mean([e.theft for e in on_test(best)])),
        "control": float(np.mean([e.control for e in on_test(best)])),
        "advantage": advantage,
        "membership_auc": float(aucs.mean()),
        "membership_reliability": intraclass_correlation(aucs),
        "accuracy_correlation": _rank_correlation(rewards.mean(axis=1), accuracies.mean(axis=1)),
        **_theft_figures(scenario, random, accuracies.mean(axis=1), thefts, workers, on_audit),
    }
    reason = _reason(scenario, figures)
    return Admission(designs=len(random), seeds=len(SEARCH_SEEDS), **figures, passed=not reason, reason=reason)


def _theft_figures(
    scenario: Scenario,
    designs: Sequence[Design],
    accuracies: np.ndarray,
    thefts: np.ndarray,
    workers: int,
    on_audit: Progress,
) -> dict[str, float]:
    """Whether loot is worth anything, and whether security is a choice among accurate designs; NaN where the reward does not weigh theft.

    Args:
        scenario: the scenario.
        designs: random designs.
        accuracies: of each design ``[D]``.
        thefts: the theft score of each under every seed ``[D, seeds]``.
        workers, on_audit: see ``check``.
    """
    names = ("loot_worth", "loot_errors", "theft_reliability", "theft_spread", "theft_agreement", "theft_gap", "theft_gap_largest")
    if not scenario.reward.theft:
        return dict.fromkeys(names, float("nan"))
    accurate = np.argsort(-accuracies, kind="stable")[: max(2, round(ACCURATE_SHARE * len(designs)))]
    chosen = [designs[index] for index in accurate]
    others = [design for design in handmade(scenario).values() if design not in chosen]
    jobs = [(design, AUDIT_SEED) for design in (*chosen, *others, _centralised(scenario))]
    audits = in_processes(scenario, _audit, jobs, workers, on_audit)
    whole, gaps = audits[-1], [np.mean(audit["values"]) - np.mean(audit["scored"]) for audit in audits]
    gain = np.array(whole["values"]) - np.array(whole["controls"])
    error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
    found = thefts[accurate]
    figures = (
        float(gain.mean()),
        float(gain.mean() / max(error, 1e-9)),
        intraclass_correlation(found),
        float(found.mean(axis=1).std(ddof=1)),
        _rank_correlation(found.mean(axis=1), np.array([np.mean(audit["values"]) for audit in audits[: len(accurate)]])),
        float(np.mean(gaps)),
        float(max(gaps)),
    )
    return dict(zip(names, figures, strict=True))


def _centralised(scenario: Scenario) -> Design:
    """The most accurate hand-made ansatz with all of its parts at one provider."""
    evaluator = Evaluator(scenario)
    parts = min(scenario.design.max_parts, scenario.design.qubits)
    providers = scenario.provider_names[:1] * parts
    layouts = [layout(scenario.design.qubits, parts) for layout in (contiguous, interleaved)]
    found = [ry_cz_ry(layout, providers, layers) for layout in layouts for layers in (1, 2, 3)]
    return max(found, key=lambda design: evaluator.evaluate(design, seed=AUDIT_SEED, rows="test", limits=False).accuracy)


def intraclass_correlation(values: np.ndarray) -> float:
    """ICC(1) of ``values`` ``[designs, seeds]``: between-design variance over total (Shrout and Fleiss, 1979), at least 0."""
    n, k = values.shape
    between = k * values.mean(axis=1).var(ddof=1)
    within = ((values - values.mean(axis=1, keepdims=True)) ** 2).sum() / (n * (k - 1))
    total = between + (k - 1) * within
    return float(max(0.0, (between - within) / total)) if total > 0 else 0.0


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(spearmanr(a, b).statistic) if a.std() > 0 and b.std() > 0 else 0.0


def _reason(scenario: Scenario, figures: dict[str, float]) -> str:
    if figures["reliability"] < MIN_RELIABILITY:
        return f"reliability below {MIN_RELIABILITY}"
    if figures["test_correlation"] < MIN_TEST_CORRELATION:
        return f"correlation with the test split below {MIN_TEST_CORRELATION}"
    if figures["trivial_reward"] > MAX_TRIVIAL_SHARE * figures["best_reward"]:
        return "one idle gate earns more than half of the best known reward"
    stealing = scenario.reward.theft or scenario.reward.weight("extraction")
    if stealing and scenario.threat.thief == "rational" and figures["advantage"] < MIN_ADVANTAGE:
        return "nothing worth stealing: the best known model is not two standard errors above the control"
    if scenario.reward.theft and scenario.threat.thief == "rational":
        if figures["loot_worth"] < MIN_LOOT_WORTH or figures["loot_errors"] < MIN_LOOT_ERRORS:
            return "nothing worth stealing: all of a centralised model adds too little to what a thief has anyway"
        if figures["theft_reliability"] < MIN_THEFT_RELIABILITY or figures["theft_spread"] < MIN_THEFT_SPREAD:
            return "no tension: among accurate designs the theft score hardly tells designs apart"
        if figures["theft_agreement"] < MIN_AGREEMENT:
            return f"among accurate designs the rank correlation of the theft score with the audit's is below {MIN_AGREEMENT}"
        if figures["theft_gap"] > MAX_THEFT_GAP or figures["theft_gap_largest"] > MAX_SINGLE_THEFT_GAP:
            return "the audit's thief is far ahead of the reward's, which would pay for what an audit takes away"
    leaks = figures["membership_auc"] - 0.5 > MIN_LEAK
    if scenario.reward.membership and not (leaks and figures["membership_reliability"] >= MIN_RELIABILITY):
        return "the membership term carries no signal"
    return ""


def _evaluate(evaluator: Evaluator, job: tuple[Design, int, Rows]) -> Evaluation:
    design, seed, rows = job
    with _named(design):
        # The trivial reference may hold what the scenario does not offer; all others keep its limits anyway.
        return evaluator.evaluate(design, seed=seed, rows=rows, limits=False)


def _audit(evaluator: Evaluator, job: tuple[Design, int]) -> Mapping[str, list[float]]:
    """Accuracies of the audit's best thief, of its control, and of the thief of the reward, one per draw."""
    design, seed = job
    with _named(design):
        best = strongest_thief(Service.train(evaluator.workload, design, seed, "test"), EFFORT)
        scored = evaluator.evaluate(design, seed=seed, rows="test", limits=False).per_draw["theft"]
    return {"values": best.values.tolist(), "controls": np.broadcast_to(best.controls, best.values.shape).tolist(), "scored": [*scored]}


@contextmanager
def _named(design: Design) -> Iterator[None]:
    """Says of which design an evaluation broke down."""
    try:
        yield
    except EvaluationFailure as error:
        raise QumosError(f"design {design.hash[:12]}: {error}") from error
