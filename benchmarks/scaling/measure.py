"""The times that the simulation is fed with, and the speed with the workers that this machine has."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agents import SearchTask, load_agent
from agents.pool import Answer, Job, open_pool
from agents.pool.cluster import ClusterPool, Evaluating
from agents.protocol import Outcome, Trial
from agents.random_search import RandomSearcher
from agents.ray_session import ray_session
from agents.shared_cache import shared_cache
from qumos_env import Evaluator, load_scenario
from qumos_env.env.actions import DesignState
from qumos_env.scenario import Scenario

from .simulation import Costs

CALLS = 3
"""To the cache per evaluation: is it there, are its first draws, and here it is."""


class Instant(Evaluating):
    """A worker that answers at once."""

    def evaluate(self, job: Job) -> Answer:
        """See the class."""
        return Answer(Outcome(0.5, {f"measured {number}": 0.5 for number in range(40)}))


def designs(scenario: Scenario, count: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Action sequences of random designs."""
    searcher = RandomSearcher(scenario, seed)
    return [searcher.ask().actions for _ in range(count)]


def evaluation_seconds(scenario: Scenario, count: int) -> list[float]:
    """The time of each of ``count`` evaluations of random designs, after one that loads the data."""
    evaluator, found = Evaluator(scenario), []
    for number, actions in enumerate(designs(scenario, count + 1)):
        start = time.perf_counter()
        evaluator.evaluate(DesignState(scenario).replay(actions).design())
        if number:
            found.append(time.perf_counter() - start)
    return found


def agent_seconds(agent: str, scenario: Scenario, count: int) -> float:
    """The agent's own time per design, at ``count`` designs: a search in which evaluations take none."""
    from agents.pool import local

    class Nothing:
        hits = 0

        def __init__(self, *arguments: Any, **others: Any) -> None:
            self._rng = np.random.default_rng(0)

        def evaluate(self, *arguments: Any, **others: Any) -> Any:
            reward = float(self._rng.random())
            return type("Evaluation", (), {"reward": reward, "to_dict": lambda self: {"reward": reward}})()

    settings = load_agent(agent).settings_for(scenario.name, {"warm_start": False}).model_dump()
    task = SearchTask(scenario, count, seed=0, workers=0, settings=settings)
    kept, local.Evaluator = local.Evaluator, Nothing  # type: ignore[misc, assignment]
    try:
        return timed(lambda: load_agent(agent).search(task, on_trial=_ignore, should_stop=lambda: False, on_stage=lambda _: None)) / count
    finally:
        local.Evaluator = kept  # type: ignore[misc]


def _ignore(trial: Trial) -> None:
    pass


def timed(call: Callable[[], object]) -> float:
    """Seconds of ``call``."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def overheads(scenario: Scenario, count: int) -> dict[str, float]:
    """Of one message through the pool, and of the cache's process per call; on a Ray of this machine's own.

    The round trip of an empty job holds handing out, the trip there and back, and taking in; each is given the same quarter of it.
    """
    jobs = [Job(DesignState(scenario).replay(actions).design()) for actions in designs(scenario, 50)]
    with ray_session(1, lambda _: None, "local"), tempfile.TemporaryDirectory() as folder:
        kept, ClusterPool.evaluating = ClusterPool.evaluating, Instant
        try:
            with ClusterPool(scenario, 1) as pool:
                pool.run(jobs)
                round_trip = timed(lambda: pool.run(jobs[number % 50] for number in range(count))) / count
        finally:
            ClusterPool.evaluating = kept
        with shared_cache(str(Path(folder) / "cache.sqlite")) as cache:
            assert cache is not None
            value = "x" * 5000
            cache.put("first", value)
            get = timed(lambda: [cache.get(f"no {number}") for number in range(count)]) / count
            put = timed(lambda: [cache.put(f"key {number}", value) for number in range(count)]) / count
    # Of a call that waits for its answer half is the trip, which the cache's process does not spend.
    return {"round_trip": round_trip, "cache": (2 * get + put) / CALLS / 2}


def speed(scenario: Scenario, workers: int, address: str | None, count: int) -> float:
    """Evaluations per second of a pool, from when all workers are warm."""
    jobs = [Job(DesignState(scenario).replay(actions).design()) for actions in designs(scenario, count + 2 * workers, seed=workers)]
    with open_pool(scenario, workers, address=address) as pool:
        pool.run(jobs[: 2 * workers])
        return count / timed(lambda: pool.run(jobs[2 * workers :]))


def costs(scenario: Scenario, agent: str, evaluations: list[float], found: dict[str, float], count: int) -> Costs:
    """All that the simulation wants to know of a classical agent; ``count`` designs are asked for."""
    own, quarter = agent_seconds(agent, scenario, count), found["round_trip"] / 4
    return Costs(tuple(evaluations), own / 2, own / 2, quarter, quarter, quarter, found["cache"], CALLS)


def of_learner(base: Costs, seconds_per_batch: float, seconds_per_runner: float) -> Costs:
    """The same for an RLlib agent."""
    return replace(base, learn=seconds_per_batch, round=seconds_per_runner)


def scenario_of(name: str) -> Scenario:
    """The scenario of that name."""
    return load_scenario(name)
