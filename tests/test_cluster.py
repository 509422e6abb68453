"""Searches on a Ray cluster: the trace is the one of a search in this process, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray_cluster import Node, head

from agents import SearchTask, load_agent
from agents.baselines import baselines
from agents.meter import Meter
from agents.pool import Answer, Job
from agents.pool import cluster as cluster_pool
from agents.pool.base import ATTEMPTS, Pending
from agents.pool.cluster import ClusterPool, Evaluating, Greeting
from agents.pool.source import Source, source
from agents.protocol import Outcome, Trial
from agents.ray_session import ray_session
from agents.shared_cache import SharedCache, shared_cache
from qumos_env import load_scenario
from qumos_env.errors import QumosError
from qumos_env.evaluation.cache import EvaluationCache
from training.rundir import read_trace

pytestmark = [pytest.mark.slow, pytest.mark.rllib]
ROOT = Path(__file__).resolve().parent.parent
SCENARIO = load_scenario("iris-smoke")
DESIGNS = [baseline.design for baseline in baselines(SCENARIO) if baseline.limits]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A head with two processors, and this process connected to it."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with head(2) as one, ray_session(2, lambda _: None, one.address):
        yield one


def essence(trials: list[Trial]) -> list[dict[str, object]]:
    """Everything but the clock."""
    return [trial.to_dict() | {"seconds": 0} for trial in trials]


def evolve(workers: int, budget: int = 12, on_trial: Callable[[Trial], None] = lambda _: None, **more: Any) -> list[Trial]:
    """A short evolution."""
    trials: list[Trial] = []

    def told(trial: Trial) -> None:
        trials.append(trial)
        on_trial(trial)

    settings = load_agent("evolution").settings_for("iris-smoke", {"population": 6, "tournament": 2}).model_dump()
    task = SearchTask(SCENARIO, budget, seed=5, workers=workers, settings=settings, **more)
    load_agent("evolution").search(task, on_trial=told, should_stop=lambda: False, on_stage=lambda _: None)
    return trials


@pytest.fixture(scope="module")
def expected() -> list[dict[str, object]]:
    """The trace of a search in this process."""
    return essence(evolve(0))


class Scripted(Evaluating):
    """A worker whose evaluations are told by the seed what to do: 0 dies, 1 hangs, 2 raises, the others answer with the seed."""

    def evaluate(self, job: Job) -> Answer:
        """See the class."""
        if job.seed == 0:
            os._exit(3)
        if job.seed == 1:
            time.sleep(3600)
        if job.seed == 2:
            return Answer(QumosError("a design that does not fit"))
        return Answer(Outcome(float(job.seed or 0), {"process": os.getpid()}))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools have scripted workers; by value, since workers cannot import this file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(ClusterPool, "evaluating", Scripted)


def job(seed: int) -> Job:
    """A job for a scripted worker."""
    return Job(DESIGNS[0], seed)


class TestPool:
    """The pool itself."""

    def test_a_trace_is_the_same_and_everything_is_measured_once(
        self, node: Node, expected: list[dict[str, object]], tmp_path: Path
    ) -> None:
        """With one worker and with two; a second search finds all of it in the cache, which is the file of the run."""
        cache, meter = str(tmp_path / "evaluations.sqlite"), Meter()
        assert essence(evolve(2, address=node.address, cache=cache, meter=meter)) == expected
        work = meter.read()
        assert (work.evaluations, work.hits, work.failures, work.deaths) == (12, 0, {}, 0)
        assert sum(work.by_worker.values()) == 12 and all(name.startswith(f"{node.host}/") for name in work.by_worker)
        again = Meter()
        assert essence(evolve(1, address=node.address, cache=cache, meter=again)) == expected
        assert (again.read().evaluations, again.read().hits) == (12, 12)
        here = Meter()
        assert essence(evolve(0, cache=cache, meter=here)) == expected and here.read().hits == 12

    def test_deadly_hanging_and_impossible_evaluations_cost_nobody_else_anything(self, node: Node, scripted: None) -> None:
        meter = Meter()
        with ClusterPool(SCENARIO, 1, limit=2.0, meter=meter) as pool:
            waiting = [pool.submit(job(seed)) for seed in (5, 1, 2, 6)]
            assert [waiting[number].result().reward for number in (0, 1, 3)] == [5, 0, 6]
            assert waiting[1].result().failure == "it took longer than 2 s"
            with pytest.raises(QumosError, match="a design that does not fit"):
                waiting[2].result()
        work = meter.read()
        assert work.failures == {"time limit": 1} and work.late == 2 and work.deaths == 0

    @pytest.mark.slow
    def test_an_evaluation_that_kills_its_workers_fails(self, node: Node, scripted: None) -> None:
        meter = Meter()
        with ClusterPool(SCENARIO, 2, meter=meter) as pool:
            deadly, other = pool.submit(job(0)), pool.submit(job(7))
            assert "died" in deadly.result().failure and other.result().reward == 7
            assert deadly.attempts == ATTEMPTS and other.attempts == 0
        assert meter.read().failures == {"worker": 1} and meter.read().deaths == ATTEMPTS

    def test_a_waiting_evaluation_is_taken_back(self, node: Node, scripted: None) -> None:
        with ClusterPool(SCENARIO, 1) as pool:
            running, waiting = pool.submit(job(1)), pool.submit(job(8))
            while pool._workers[0].pending is None:
                pool.attend()
            assert waiting.cancel() and not running.cancel() and not waiting.cancel()

    @pytest.mark.parametrize(
        ("found", "message"),
        [
            (Greeting("10.0.0.7", 1, Source("0.9", "ab" * 32, "3.11.7"), ""), r"10\.0\.0\.7 runs other code \(qumos_env 0\.9, source abab"),
            (Greeting("10.0.0.7", 1, source(), "", "data rows.csv: not found"), r"10\.0\.0\.7 cannot read .*rows\.csv: not found"),
            (Greeting("10.0.0.7", 1, source(), "other"), r"10\.0\.0\.7 has other rows for iris-smoke"),
        ],
    )
    def test_a_worker_that_is_not_fit_is_refused(self, found: Greeting, message: str, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        monkeypatch.setattr(ClusterPool, "evaluating", _saying(found))
        with ClusterPool(SCENARIO, 1) as pool, pytest.raises(QumosError, match=message):
            pool.submit(job(5)).result()

    def test_a_node_without_a_package_is_named(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        monkeypatch.setattr(ClusterPool, "evaluating", Lacking)
        with ClusterPool(SCENARIO, 1) as pool, pytest.raises(QumosError, match=rf"node {node.host} cannot be made: .*no_such_package"):
            pool.submit(job(5)).result()


class Lacking(Evaluating):
    """A worker on a node that lacks a package."""

    def __init__(self, scenario: dict[str, object], cache: Any) -> None:
        import no_such_package  # noqa: F401


def _saying(greeting: Greeting) -> type[Evaluating]:
    class Saying(Evaluating):
        def greeting(self) -> Greeting:
            return greeting

    return Saying


class TestFaults:
    """What happens to clusters."""

    def test_killed_workers_and_a_killed_cache_leave_the_trace_as_it_is(
        self, node: Node, expected: list[dict[str, object]], tmp_path: Path
    ) -> None:
        """kill -9 of the process of an evaluation and of the cache's actor, in mid-search."""
        killed: list[str] = []

        def fault(trial: Trial) -> None:
            name = {2: "ray::Evaluating", 5: "ray::EvaluationCache", 8: "ray::Evaluating"}.get(trial.index)
            for process in node.named(name)[:1] if name else ():
                os.kill(process, signal.SIGKILL)
                killed.append(str(name))

        cache, meter = str(tmp_path / "evaluations.sqlite"), Meter()
        assert essence(evolve(2, on_trial=fault, address=node.address, cache=cache, meter=meter)) == expected
        assert killed == ["ray::Evaluating", "ray::EvaluationCache", "ray::Evaluating"]
        assert meter.read().deaths >= 1 and not meter.read().failures
        again = Meter()
        assert essence(evolve(0, cache=cache, meter=again)) == expected and again.read().hits == 12

    @pytest.mark.slow
    def test_a_node_joins_and_another_is_lost(self, tmp_path: Path) -> None:
        """In a cluster of its own, whose head has no room for a worker: the first node joins when the search waits already."""
        script = tmp_path / "driver.py"
        script.write_text(DRIVER)
        whole = essence(evolve(0, budget=40))
        with head(0) as one:
            trace = tmp_path / "trace.jsonl"
            with (tmp_path / "log").open("wb") as log:
                driver = subprocess.Popen([sys.executable, str(script), one.address, str(trace)], stdout=log, stderr=log, cwd=ROOT)
            try:
                first = Node(1, one.address)
                _wait(lambda: lines(trace) >= 6, driver, tmp_path / "log")
                second = Node(1, one.address)
                first.kill()
                assert driver.wait(timeout=400) == 0, (tmp_path / "log").read_text()
                second.kill()
            finally:
                driver.kill()
                driver.wait()
        assert essence(read_trace(trace)) == whole


DRIVER = """
import sys
from pathlib import Path
from agents import SearchTask, load_agent
from agents.ray_session import ray_session
from qumos_env import load_scenario
from training.rundir import TraceWriter
address, path = sys.argv[1:]
settings = load_agent("evolution").settings_for("iris-smoke", {"population": 6, "tournament": 2}).model_dump()
task = SearchTask(load_scenario("iris-smoke"), 40, seed=5, workers=2, settings=settings, address=address)
with ray_session(2, lambda _: None, address), TraceWriter(Path(path)) as trace:
    load_agent("evolution").search(task, on_trial=trace.write, should_stop=lambda: False, on_stage=lambda _: None)
"""


def lines(path: Path) -> int:
    """How many there are in the file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _wait(until: Callable[[], bool], driver: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 400
    while not until():
        assert driver.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


class TestSharedCache:
    """One cache for all of a cluster."""

    def test_it_keeps_everything_in_the_file_and_comes_back_when_killed(self, node: Node, tmp_path: Path) -> None:
        path = str(tmp_path / "evaluations.sqlite")
        with shared_cache(path) as cache:
            assert isinstance(cache, SharedCache) and cache.get("a") is None
            cache.put_all({"a": "1", "b": "2"})
            (process,) = node.named("ray::EvaluationCache")
            os.kill(process, signal.SIGKILL)
            assert cache.get("a") == "1" and ray.get(_read.remote(cache, "b")) == "2"
            cache.put("c", "3")
            assert process not in node.named("ray::EvaluationCache")
        assert [EvaluationCache(path).get(key) for key in "abc"] == ["1", "2", "3"]

    def test_what_is_wrong_with_the_file_is_said(self, node: Node, tmp_path: Path) -> None:
        path = tmp_path / "evaluations.sqlite"
        path.write_bytes(b"junk " * 1000)
        with pytest.raises(QumosError, match=r"evaluations\.sqlite: cannot be used"), shared_cache(str(path)):
            raise AssertionError("entered")
        path.unlink()
        with shared_cache(str(path)) as cache:
            assert cache is not None
            cache.put("a", "1")
            path.write_bytes(b"junk " * 1000)
            with pytest.raises(QumosError, match=r"evaluations\.sqlite: cannot be used"):
                cache.get("b")


@ray.remote
def _read(cache: SharedCache, key: str) -> str | None:
    return cache.get(key)


class TestCommands:
    """`train` and `resume`, killed in mid-search."""

    def train(self, run: Path, address: str | None, log: Path) -> subprocess.Popen[bytes]:
        """A search as users start it."""
        small = ["-s", "iris-smoke", "--contenders", "2", "--test-seeds", "2", "--random-budget", "2", "--budget", "30", "--workers", "2"]
        more = ["--address", address] if address else []
        command = [sys.executable, "-m", "training", "train", "--agent", "evolution", *small, "--out", str(run), *more]
        with log.open("wb") as output:
            return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)

    @pytest.mark.slow
    def test_a_killed_driver_is_resumed_elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Begun on Ray and finished on local processes, and the other way round; the trace is the uninterrupted one."""
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        log = tmp_path / "log"
        assert self.train(tmp_path / "whole", None, log).wait(timeout=500) == 0, log.read_text()
        whole = essence(read_trace(tmp_path / "whole" / "trace.jsonl"))
        with head(2) as one:
            for name, first, second in (("there", one.address, None), ("here", None, one.address), ("on", one.address, one.address)):
                run = tmp_path / name
                driver = self.train(run, first, log)
                _wait(lambda run=run: lines(run / "trace.jsonl") >= 8, driver, log)  # type: ignore[misc]
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()
                more = ["--address", second, "--workers", "1"] if second else ["--workers", "1"]
                command = [sys.executable, "-m", "training", "resume", str(run), *more]
                ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
                assert ended.returncode == 0, ended.stderr
                assert essence(read_trace(run / "trace.jsonl")) == whole, name


def test_no_room_is_said(node: Node, scripted: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Not in silence: another program has all processors of the cluster."""
    monkeypatch.setattr(cluster_pool, "NOTICE_SECONDS", 0.5)
    with ClusterPool(SCENARIO, 2) as full:
        for pending in [full.submit(job(5)), full.submit(job(6))]:
            pending.result()
        while len([one for one in full._workers if one.ready]) < 2:
            full.attend()
        with ClusterPool(SCENARIO, 1) as waiting:
            pending = waiting.submit(job(7))
            threading.Timer(3.0, full.close).start()
            assert pending.result().reward == 7 and isinstance(pending, Pending)
    assert "no worker has found room yet: 0 of 2 processors" in caplog.text
