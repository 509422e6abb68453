"""A search on a small Ray cluster under random faults, `make soak`.

Workers, the cache's actor, whole nodes and the driver are killed with `kill -9` at random moments of a seeded sequence; nodes come back,
and the driver is resumed, on the cluster or on local processes. At the end the trace must be the one of a search in one process that
nothing happened to: every finished evaluation once, none lost. Prints the faults and exits with 1 where that is not so.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from ray_cluster import Node, head  # noqa: E402 (the paths come first)

from agents import SearchTask, Trial, load_agent  # noqa: E402
from training.rundir import RunDirectory, read_trace  # noqa: E402

SCENARIO, AGENT, BUDGET = "iris-smoke", "evolution", 100_000
PAUSE = (4.0, 15.0)
"""Seconds between two faults."""


class Soak:
    """The cluster, the driver, and what is done to them."""

    def __init__(self, one: Node, folder: Path, seed: int) -> None:
        self.head = one
        self.run = folder / "run"
        self.log = folder / "log"
        self.rng = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.nodes = [Node(1, one.address), Node(1, one.address)]
        small = ["-s", SCENARIO, "-a", AGENT, "--budget", str(BUDGET), "--seed", "7", "--no-warm-start"]
        self.driver = self.start("train", *small, "--workers", "3", "--out", str(self.run), "--address", one.address)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A driver, in a process group of its own."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"RAY_AUTH_MODE": "disabled"}
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "training", *arguments]
            return subprocess.Popen(command, cwd=ROOT, env=clean, stdout=log, stderr=log, start_new_session=True)

    def lines(self) -> int:
        """Trials on disk."""
        trace = self.run / "trace.jsonl"
        return trace.read_bytes().count(b"\n") if trace.exists() else 0

    def grown(self, more: int, seconds: float) -> bool:
        """Waits until that many further trials are on disk; False where they do not come."""
        wanted, deadline = self.lines() + more, time.monotonic() + seconds
        while self.lines() < wanted and time.monotonic() < deadline:
            if self.driver.poll() is not None:
                return False
            time.sleep(0.2)
        return self.lines() >= wanted

    def fault(self) -> None:
        """One of them."""
        kind = self.rng.choice(["worker", "worker", "cache", "node", "driver"])
        if kind in ("worker", "cache"):
            name = {"worker": "ray::Evaluating", "cache": "ray::EvaluationCache"}[kind]
            everywhere = sorted(pid for node in (self.head, *self.nodes) for pid in node.named(name))
            if not everywhere:
                return
            os.kill(self.rng.choice(everywhere), signal.SIGKILL)
        elif kind == "node":
            self.nodes.pop(self.rng.randrange(len(self.nodes))).kill()
            self.nodes.append(Node(1, self.head.address))
        else:
            os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
            here = self.rng.random() < 0.25
            where = ["--address", self.head.address, "--workers", "3"] if not here else ["--workers", "1"]
            kind = "driver, resumed here" if here else "driver, resumed there"
            self.driver = self.start("resume", str(self.run), *where)
        self.faults[kind] += 1
        print(f"{self.lines():5} trials, fault {self.faults.total()}: {kind}", flush=True)

    def end(self) -> None:
        """Kills the driver and the nodes."""
        if self.driver.poll() is None:
            os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
        for node in self.nodes:
            node.kill()


def expected(run: RunDirectory, count: int) -> list[Trial]:
    """The first ``count`` trials of the search, in this process."""
    trials: list[Trial] = []
    task = SearchTask(run.plan.scenario, run.plan.budget, run.plan.seed, workers=0, settings=run.plan.settings)
    stop: Any = lambda: len(trials) >= count  # noqa: E731
    load_agent(AGENT).search(task, on_trial=trials.append, should_stop=stop, on_stage=lambda _: None)
    return trials[:count]


def essence(trials: list[Trial]) -> list[dict[str, object]]:
    """Everything but the clock."""
    return [trial.to_dict() | {"seconds": 0} for trial in trials]


def main() -> int:
    """See the module; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    # So that a request to end takes the cluster along, which is in process groups of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, head(1) as one:
        soak = Soak(one, Path(folder), given.seed)
        try:
            if not soak.grown(5, 600):
                print(f"the search did not begin: {soak.log.read_text()}")
                return 1
            deadline = time.monotonic() + given.seconds
            while time.monotonic() < deadline:
                time.sleep(soak.rng.uniform(*PAUSE))
                if soak.driver.poll() is not None:
                    print(f"the driver ended by itself: {soak.log.read_text()[-2000:]}")
                    return 1
                soak.fault()
            if not soak.grown(10, 600):
                print(f"the search does not go on: {soak.log.read_text()[-2000:]}")
                return 1
        finally:
            soak.end()
        found = read_trace(soak.run / "trace.jsonl")
        whole = expected(RunDirectory.open(soak.run), len(found))
        hashes = [trial.design_hash for trial in found if not trial.repeated]
        same = essence(found) == essence(whole)
        print(f"{given.seconds:g} s, seed {given.seed}: {soak.faults.total()} faults {dict(soak.faults)}")
        print(f"{len(found)} trials, {len(hashes)} designs evaluated, {len(hashes) - len(set(hashes))} of them twice")
        print("the trace is that of an undisturbed search" if same else "THE TRACE DIFFERS from that of an undisturbed search")
        return 0 if same and len(hashes) == len(set(hashes)) else 1


if __name__ == "__main__":
    sys.exit(main())
