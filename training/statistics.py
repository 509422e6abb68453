"""Intervals over few runs, of one task and of several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from qumos_env.evaluation.statistics import CONFIDENCE, Interval

RESAMPLES = 5000


def interquartile_mean(values: Sequence[float] | np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half of ``values`` ``[..., n]``, fractional at the ends (Agarwal et al., 2021); of fewer than four, of all."""
    data = np.asarray(values, np.float64)
    return np.asarray(stats.trim_mean(data, 0.25 if data.shape[axis] >= 4 else 0.0, axis=axis))


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Interquartile mean of ``values`` (one per run) with its 95 % percentile bootstrap interval; one value alone has none."""
    centre = float(interquartile_mean(values))
    if len(values) < 2:
        return Interval(centre, float("nan"), float("nan"))
    draws = np.random.default_rng(seed)
    found = stats.bootstrap(
        (values,), interquartile_mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", random_state=draws
    ).confidence_interval
    return Interval(centre, float(found.low), float(found.high))


@dataclass(frozen=True, eq=False)
class Profile:
    """A performance profile: the share of runs whose score is above each of ``levels``, with its interval."""

    levels: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def stratified_interval(
    tasks: Sequence[np.ndarray], statistic: Callable[[Sequence[np.ndarray]], float], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """``statistic`` of the scores of several tasks, one array ``[runs]`` each, with its 95 % stratified percentile bootstrap interval.

    Runs are drawn again within every task, tasks never (Agarwal et al., *Deep reinforcement learning at the edge of the statistical
    precipice*, 2021). Without a task of two runs there is no interval.
    """
    centre = statistic(tasks)
    if max((len(task) for task in tasks), default=0) < 2:
        return Interval(centre, float("nan"), float("nan"))
    found = np.array([statistic(again) for again in _resampled(tasks, seed, resamples)])
    return Interval(centre, *_bounds(found))


def aggregate_iqm(tasks: Sequence[np.ndarray]) -> float:
    """Interquartile mean over the runs of all tasks together."""
    return float(interquartile_mean(np.concatenate(tasks)))


def probability_of_improvement(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """How likely a run of ``first`` is better than one of ``second`` on a task drawn at random; ties count half.

    The Mann-Whitney statistic of every task, averaged over tasks; the same tasks in the same order.
    """
    shares = [np.mean((a[:, None] > b[None]) + 0.5 * (a[:, None] == b[None])) for a, b in zip(first, second, strict=True)]
    return float(np.mean(shares))


def improvement_interval(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """``probability_of_improvement`` with its 95 % stratified percentile bootstrap interval."""
    centre = probability_of_improvement(first, second)
    if max((len(task) for task in (*first, *second)), default=0) < 2:
        return Interval(centre, float("nan"), float("nan"))
    pairs = zip(_resampled(first, seed, resamples), _resampled(second, seed + 1, resamples), strict=True)
    return Interval(centre, *_bounds(np.array([probability_of_improvement(*pair) for pair in pairs])))


def performance_profile(tasks: Sequence[np.ndarray], levels: np.ndarray, seed: int = 0, resamples: int = RESAMPLES // 5) -> Profile:
    """The share of runs above each of ``levels``, averaged over tasks, with pointwise 95 % stratified bootstrap bands."""

    def shares(scores: Sequence[np.ndarray]) -> np.ndarray:
        return np.asarray(np.mean([(task[:, None] > levels).mean(axis=0) for task in scores], axis=0))

    found = np.stack([shares(again) for again in _resampled(tasks, seed, resamples)])
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return Profile(levels, shares(tasks), low, high)


def _resampled(tasks: Sequence[np.ndarray], seed: int, resamples: int) -> Iterator[list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield [task[generator.integers(len(task), size=len(task))] for task in tasks]


def _bounds(found: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
