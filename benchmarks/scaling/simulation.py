"""A discrete-event simulation of a search on a cluster, fed with measured times.

The driver is one thread: it asks the agent for designs, hands them out, takes answers in, and tells the agent, in the order in which it
asked and each when ``lag`` further designs have been asked for, as ``agents.ask_tell`` does. The cache is one process that serves one
call at a time. RLlib agents play rounds of episodes on all env runners and learn between batches, as ``agents.search_algorithm`` does.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Costs:
    """What was measured; seconds.

    Attributes:
        evaluations: a sample of the time that an evaluation takes.
        ask, tell: of the agent, per design.
        submit, receive: of the driver, to hand out a job and to take an answer in.
        trip: of a message between two machines.
        cache: of the cache's process, per call.
        calls: to the cache, per evaluation.
        learn: of an RLlib agent, per batch.
        round: of RLlib, to start a round on the env runners and gather it, per runner.
    """

    evaluations: tuple[float, ...]
    ask: float
    tell: float
    submit: float
    receive: float
    trip: float
    cache: float
    calls: int
    learn: float = 0.0
    round: float = 0.0


@dataclass(frozen=True)
class Simulated:
    """How a search went.

    Attributes:
        efficiency: share of the workers' time that was evaluation.
        rate: evaluations per second.
        driver, cache: share of the time that the driver and the cache's process were busy.
    """

    efficiency: float
    rate: float
    driver: float
    cache: float

    @property
    def bottleneck(self) -> str:
        """What keeps it from being faster."""
        if self.efficiency >= 0.95:
            return "none"
        busiest = max(("driver", self.driver), ("cache", self.cache), key=lambda pair: pair[1])
        return busiest[0] if busiest[1] >= 0.9 else "waiting in order"


class _Cluster:
    """Workers and the cache's process: what happens there, in the order of time."""

    def __init__(self, costs: Costs, seconds: np.ndarray) -> None:
        self._costs = costs
        self._seconds = seconds
        self._events: list[tuple[float, int, int]] = []
        """When, what (calls of the cache that are left; −1: the answer has arrived), and of which evaluation."""
        self._cache_free = 0.0
        self.cache_busy = 0.0

    def begin(self, number: int, when: float) -> None:
        """An evaluation arrives at its worker."""
        heapq.heappush(self._events, (when, self._costs.calls, number))

    def next_answer(self, until: float) -> tuple[float, int] | None:
        """The next answer that arrives, and when, if that is not after ``until``."""
        costs = self._costs
        while self._events and self._events[0][0] <= until:
            when, left, number = heapq.heappop(self._events)
            if left < 0:
                return when, number
            if left == 0:
                heapq.heappush(self._events, (when + costs.trip, -1, number))
                continue
            self._cache_free = max(self._cache_free, when + costs.trip) + costs.cache
            self.cache_busy += costs.cache
            # All calls but the last come before the evaluation.
            after = float(self._seconds[number]) if left == 2 or costs.calls == 1 else 0.0
            heapq.heappush(self._events, (self._cache_free + costs.trip + after, left - 1, number))
        return None


def classical(costs: Costs, workers: int, lag: int, designs: int, seed: int, *, eager: bool = True) -> Simulated:
    """A search that is asked and told.

    Args:
        costs: what was measured.
        workers: evaluations at a time.
        lag: designs asked for and not told of.
        designs: to evaluate.
        seed: of the times drawn.
        eager: whether the driver takes in what workers have said whenever it hands out a job, and not only while it waits for the next
            answer in order.
    """
    rng = np.random.default_rng(seed)
    seconds = rng.choice(np.asarray(costs.evaluations), designs)
    cluster = _Cluster(costs, seconds)
    idle = workers
    waiting: deque[int] = deque()
    answered: set[int] = set()
    flights: deque[int] = deque()
    clock, busy, asked, told = 0.0, 0.0, 0, 0

    def work(duration: float) -> None:
        nonlocal clock, busy
        clock += duration
        busy += duration

    def hand_out() -> None:
        nonlocal idle
        while idle and waiting:
            idle -= 1
            work(costs.submit)
            cluster.begin(waiting.popleft(), clock + costs.trip)

    def take_in(until: float) -> bool:
        nonlocal idle, clock
        found = cluster.next_answer(until)
        if found is None:
            return False
        clock = max(clock, found[0])
        answered.add(found[1])
        idle += 1
        work(costs.receive)
        return True

    while told < designs:
        while len(flights) < lag and asked < designs:
            work(costs.ask)
            flights.append(asked)
            waiting.append(asked)
            asked += 1
            while eager and take_in(clock):
                pass
            hand_out()
        first = flights.popleft()
        while first not in answered:
            take_in(np.inf)
            while take_in(clock):
                pass
            hand_out()
        work(costs.tell)
        told += 1
    return Simulated(float(seconds.sum()) / (workers * clock), designs / clock, busy / clock, cluster.cache_busy / clock)


def learning(costs: Costs, runners: int, batch: int, per_round: int, designs: int, seed: int) -> Simulated:
    """A search of an RLlib agent: rounds of at most ``per_round`` episodes per runner until a batch is full, then an update."""
    rng = np.random.default_rng(seed)
    clock, busy, done, evaluated = 0.0, 0.0, 0, 0.0
    while done < designs:
        left = batch
        while left:
            total = min(left, per_round * runners)
            shares = [total // runners + (index < total % runners) for index in range(runners)]
            times = [rng.choice(np.asarray(costs.evaluations), share).sum() for share in shares if share]
            clock += max(times) + 2 * costs.trip + costs.round * len(times)
            busy += costs.round * len(times)
            evaluated += float(sum(times))
            left -= total
        clock += costs.learn
        busy += costs.learn
        done += batch
    return Simulated(evaluated / (runners * clock), done / clock, busy / clock, 0.0)


def table(rows: Sequence[tuple[str, int, int, Simulated]]) -> str:
    """The results as Markdown: agent, workers, designs under way (or batch), and how it went."""
    heads = ("agent", "workers", "lag or batch", "efficiency", "designs/s", "driver busy", "cache busy", "bottleneck")
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * 6 + "---|"]
    for name, workers, lag, found in rows:
        figures = f"{found.efficiency:.0%} | {found.rate:.1f} | {found.driver:.0%} | {found.cache:.0%}"
        lines.append(f"| {name} | {workers} | {lag} | {figures} | {found.bottleneck} |")
    return "\n".join(lines)
