"""Latency: how long the owner waits while one provider is slow, flooded or silent.

A query goes to all providers at once and is answered when the slowest has answered. Each provider is an M/M/1 queue, whose response
time is exponential with rate (1 − ρ)·(service rate) at utilisation ρ (Kleinrock, *Queueing Systems*, vol. 1, 1975). The owner's
queries are a small part of everyone's load, so the queues are independent. A slow provider answers with its response time
multiplied by a factor; a flooded one works at a higher utilisation; a silent one does not answer with some probability, and the
owner then waits for a timeout before it falls back. Times are in units of the mean response time of the undisturbed service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import brentq

from ...evaluation.service import Service
from ...seeds import label
from ..registry import attack
from ..results import AttackResult, Control, Criterion, Curve, Measurement, Plot

PERCENTILE = 0.95
QUERIES = 500
# Relaxation times of a queue, 1/(1 − √ρ)² service times each, for which it runs before it counts as in equilibrium.
_RELAXATIONS = 8


@dataclass(frozen=True)
class Load:
    """How one provider is doing.

    Attributes:
        utilisation: of its queue, from 0 to below 1.
        slow_down: factor on its response time.
        silence: probability that it does not answer a query at all.
    """

    utilisation: float = 0.5
    slow_down: float = 1.0
    silence: float = 0.0

    @property
    def rate(self) -> float:
        """Of the exponential response time, in units of the service rate."""
        return (1 - self.utilisation) / self.slow_down


def distribution(loads: Sequence[Load], time: float, timeout: float) -> float:
    """Probability that all providers have answered by ``time``, or have been given up after ``timeout``."""
    answered = [(1 - load.silence) * -np.expm1(-load.rate * time) + load.silence * (time >= timeout) for load in loads]
    return float(np.prod(answered))


def mean_response(loads: Sequence[Load], timeout: float) -> float:
    """Mean response time, in units of the mean service time.

    The mean of the slowest of independent exponentials is Σ (−1)^(|S|+1) / (sum of the rates in S) over the non-empty sets S of
    them; if someone is silent, it is the timeout plus what exceeds it.
    """
    total = 0.0
    for silent in _subsets(len(loads)):
        chance = float(np.prod([load.silence if i in silent else 1 - load.silence for i, load in enumerate(loads)]))
        waited = timeout if silent else 0.0
        total += chance * (waited + _excess([load.rate for i, load in enumerate(loads) if i not in silent], waited))
    return total


def _excess(rates: Sequence[float], past: float) -> float:
    """∫ P(the slowest exceeds t) dt from ``past``."""
    sums = [(sum(rates[i] for i in chosen), len(chosen)) for chosen in _subsets(len(rates)) if chosen]
    return float(sum((-1) ** (size + 1) * np.exp(-rate * past) / rate for rate, size in sums))


def _subsets(count: int) -> list[tuple[int, ...]]:
    return [chosen for size in range(count + 1) for chosen in combinations(range(count), size)]


def percentile_response(loads: Sequence[Load], timeout: float, share: float = PERCENTILE) -> float:
    """The time within which the ``share`` of queries is answered, in units of the mean service time."""
    # The distribution jumps at the timeout, where the root may lie.
    high = timeout + 1.0
    while distribution(loads, high, timeout) < share:
        high *= 2
    return float(brentq(lambda time: distribution(loads, time, timeout) - share, 0.0, high, xtol=1e-9))


def simulated_responses(
    loads: Sequence[Load], timeout: float, generator: np.random.Generator, queries: tuple[int, ...] = (QUERIES,)
) -> np.ndarray:
    """Response times of shape ``queries`` in equilibrium, in units of the mean service time.

    Every query meets queues of its own, which were empty long before: waiting times by Lindley's recursion (1952).
    """
    slowest = np.zeros(queries)
    for load in loads:
        waiting = np.zeros(queries)
        if load.utilisation > 0:
            for _ in range(int(np.ceil(_RELAXATIONS / (1 - np.sqrt(load.utilisation)) ** 2))):
                waiting += generator.standard_exponential(queries)
                waiting -= generator.exponential(1 / load.utilisation, queries)
                np.maximum(waiting, 0, out=waiting)
        response = load.slow_down * (waiting + generator.standard_exponential(queries))
        slowest = np.maximum(slowest, np.where(generator.random(queries) < load.silence, timeout, response))
    return slowest


NORMAL = Load()
# Of the mean response time of the undisturbed service.
TIMEOUT = 10.0
ATTACKS_ON_ONE = {
    "slow-down by 3": Load(slow_down=3.0),
    "flooding to 90 % utilisation": Load(utilisation=0.9),
    "silence on 10 % of queries": Load(silence=0.1),
}
QUANTITIES = ("mean response time", "95th percentile")
"""What is measured; the first stands in the summary."""
SLOWER = Criterion("higher", 0.1)
"""A tenth of the undisturbed response time is noticed."""
PLOT = Plot("response time under flooding", "utilisation of one provider", "mean, in service times")


@attack(
    "slowdown",
    goal="availability",
    title="Slow or flooded provider",
    adversary="slows down or floods one provider, or keeps it from answering some queries",
)
def run(victim: Service) -> AttackResult:
    """Response time of the service, simulated once per draw, beside that of the undisturbed service.

    It depends on the number of providers in the design and on nothing else of it; notes give the exact values of the formula.
    """
    providers = len(set(victim.design.assignment))
    unit = mean_response([NORMAL] * providers, 0.0)
    timeout = TIMEOUT * unit

    def simulated(first: Load, use: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and percentile of every draw ``[K]``."""
        generator = np.random.default_rng([victim.seed, label("response times"), use])
        loads = [first, *[NORMAL] * (providers - 1)]
        times = simulated_responses(loads, timeout, generator, (len(victim.rows), QUERIES)) / unit
        return times.mean(axis=1), np.quantile(times, PERCENTILE, axis=1)

    calm = simulated(NORMAL, 0)
    measurements = []
    for use, (name, load) in enumerate(ATTACKS_ON_ONE.items(), start=1):
        loads = [load, *[NORMAL] * (providers - 1)]
        exact = mean_response(loads, timeout) / unit, percentile_response(loads, timeout) / unit
        for quantity, values, controls, formula in zip(QUANTITIES, simulated(load, use), calm, exact, strict=True):
            control, note = Control("undisturbed", controls), f"formula: {formula:.3f}"
            case, headline = f"one provider, {name}", quantity == QUANTITIES[0]
            criterion = SLOWER if headline else None
            measurements.append(Measurement(case, quantity, values, control, note, headline, criterion=criterion))
    utilisations = np.linspace(0.5, 0.98, 25)
    means = [mean_response([Load(one), *[NORMAL] * (providers - 1)], timeout) / unit for one in utilisations]
    return AttackResult(measurements, [Curve(PLOT, "mean", utilisations, np.array(means))])
