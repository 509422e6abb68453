"""``python -m benchmarks.scaling [--measured FILE] [--out FILE]``: how searches scale, as Markdown on standard output.

Measures the speed of one worker and of two, on local processes and on Ray, in pairs that take turns, and the times that the simulation
needs (which ``--out`` keeps and ``--measured`` takes instead); then simulates up to 1,000 workers. Wants a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

from agents.ray_session import ray_session
from agents.search_algorithm import ROUND
from qumos_env.errors import QumosError

from . import measure
from .simulation import Costs, Simulated, classical, learning, table

WORKERS = (1, 2, 4, 16, 64, 256, 1000)
AGENTS = ("evolution", "surrogate")
LEARNER = "reinforce"


def main(arguments: list[str] | None = None) -> int:
    """Measures, simulates and prints; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="How searches scale.")
    parser.add_argument("--scenario", default="digits-theft")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="evaluations per measurement (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="pairs of one worker and two (default %(default)s)")
    parser.add_argument("--learn", type=float, default=0.5, metavar="S", help="seconds of an RLlib update (default %(default)s)")
    parser.add_argument("--measured", type=Path, metavar="FILE", help="take the times from there")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the times there")
    given = parser.parse_args(arguments)
    try:
        if given.measured is not None:
            kept = json.loads(given.measured.read_text())
            found = {name: Costs(**(one | {"evaluations": tuple(one["evaluations"])})) for name, one in kept.items()}
        else:
            found = measured(given.scenario, given.count, given.repeats, given.learn)
    except (QumosError, OSError, ValueError, TypeError) as error:
        print(f"benchmarks.scaling: {error}", file=sys.stderr)
        return 2
    if given.out is not None:
        given.out.write_text(json.dumps({name: asdict(one) for name, one in found.items()}, indent=2) + "\n")
    for name, one in found.items():
        mean = statistics.fmean(one.evaluations)
        figures = {"evaluation": mean, "ask and tell": one.ask + one.tell, "submit": one.submit, "cache": one.cache, "learn": one.learn}
        print(f"{name}: " + ", ".join(f"{what} {1000 * seconds:.2f} ms" for what, seconds in figures.items()))
    print("\n" + table(simulated(found)))
    return 0


def measured(name: str, count: int, repeats: int, learn: float) -> dict[str, Costs]:
    """The times by agent; prints how fast one worker and two are."""
    scenario = measure.scenario_of(name)
    evaluations = measure.evaluation_seconds(scenario, count)
    for address, backend in ((None, "processes"), ("local", "Ray")):
        ratios = []
        with ray_session(2, lambda _: None, address) if address else nullcontext():
            for _ in range(repeats):
                one, two = (measure.speed(scenario, workers, address, count) for workers in (1, 2))
                ratios.append(two / one)
                print(f"{backend}: 1 worker {one:.2f}, 2 workers {two:.2f} designs/s, {two / one:.2f} times", flush=True)
        print(f"{backend}: median {statistics.median(ratios):.2f} times")
    overheads = measure.overheads(scenario, 5 * count)
    found = {agent: measure.costs(scenario, agent, evaluations, overheads, count) for agent in AGENTS}
    quarter = overheads["round_trip"] / 4
    return found | {LEARNER: replace(found[AGENTS[0]], ask=0.0, tell=0.0, learn=learn, round=2 * quarter)}


def simulated(found: dict[str, Costs]) -> list[tuple[str, int, int, Simulated]]:
    """The rows of the table."""
    rows: list[tuple[str, int, int, Simulated]] = []
    for name, costs in found.items():
        for workers in WORKERS:
            designs = max(200, 20 * workers)
            if name == LEARNER:
                for batch in dict.fromkeys((16, ROUND * workers)):
                    rows.append((name, workers, batch, learning(costs, workers, batch, ROUND, designs, seed=0)))
                continue
            for lag in dict.fromkeys((8, workers, 4 * workers)):
                rows.append((name, workers, lag, classical(costs, workers, lag, designs, seed=0)))
    return rows



if __name__ == "__main__":
    sys.exit(main())
