"""Worker processes that evaluate designs: they die, and nobody but the evaluation that was running notices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import agents.pool.base
from agents import SearchTask, load_agent
from agents.baselines import baselines
from agents.pool import Answer, EvaluationPool, Job, LocalPool
from agents.pool.base import ATTEMPTS
from agents.protocol import Outcome, Trial
from qumos_env import load_scenario
from qumos_env.errors import QumosError
from training.locking import held

ROOT = Path(__file__).resolve().parent.parent
SCENARIO = load_scenario("iris-smoke")
DESIGNS = [baseline.design for baseline in baselines(SCENARIO) if baseline.limits]


def scripted(connection: Connection, scenario: dict[str, object], cache: str | None) -> None:
    """A worker whose evaluations are told by the seed what to do: 0 dies, 1 hangs, the others answer with the seed."""
    connection.send("ready")
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send("begun")
        if job.seed == 0:
            os._exit(3)
        if job.seed == 1:
            time.sleep(3600)
        connection.send(Answer(Outcome(float(job.seed), {"process": os.getpid()})))


def stillborn(connection: Connection, scenario: dict[str, object], cache: str | None) -> None:
    """A worker that never gets ready."""
    os._exit(3)


class ScriptedPool(LocalPool):
    """A pool of ``scripted`` workers."""

    target = staticmethod(scripted)


class StillbornPool(LocalPool):
    """A pool of ``stillborn`` workers."""

    target = staticmethod(stillborn)


def job(seed: int) -> Job:
    """A job for a scripted worker."""
    return Job(DESIGNS[0], seed)


def test_only_the_evaluation_that_ran_counts_an_attempt() -> None:
    """With one worker everything waits behind the deadly evaluation; it alone fails, after its attempts."""
    with ScriptedPool(SCENARIO, 1) as pool:
        waiting = [pool.submit(job(seed)) for seed in (5, 0, 6, 7)]
        assert [pending.result().reward for pending in waiting] == [5, 0, 6, 7]
        assert [pending.attempts for pending in waiting] == [0, ATTEMPTS, 0, 0]
        assert "died" in waiting[1].result().failure


def test_bystanders_are_sent_again_however_often_their_neighbour_dies() -> None:
    """Two workers, one of them killed again and again; what waits and what the other one runs is never charged."""
    with ScriptedPool(SCENARIO, 2) as pool:
        deadly = [pool.submit(job(0)) for _ in range(4)]
        others = [pool.submit(job(seed)) for seed in range(10, 30)]
        assert [pending.result().reward for pending in others] == list(range(10, 30))
        assert all(pending.result().failure for pending in deadly)
        assert not any(pending.attempts for pending in others)


def test_a_worker_killed_while_idle_costs_nobody_an_attempt() -> None:
    """What it is given next goes to its successor."""
    with ScriptedPool(SCENARIO, 1) as pool:
        first = pool.submit(job(3)).result()
        for _ in range(ATTEMPTS + 1):
            os.kill(pool.processes[0], signal.SIGKILL)
            pending = pool.submit(job(4))
            second = pending.result()
            assert second.reward == 4 and pending.attempts == 0
            assert second.evaluation["process"] != first.evaluation["process"]
            first = second


def test_workers_that_never_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an endless loop."""
    monkeypatch.setattr(agents.pool.base, "STARTS", 3)
    with StillbornPool(SCENARIO, 1) as pool, pytest.raises(QumosError, match="no evaluation worker starts"):
        pool.submit(job(5)).result()


def test_an_evaluation_is_taken_back_while_no_worker_has_it() -> None:
    """And not when one has."""
    with ScriptedPool(SCENARIO, 1) as pool:
        running, waiting = pool.submit(job(1)), pool.submit(job(8))
        while pool._workers[0].pending is None:
            pool.attend()
        assert waiting.cancel() and not running.cancel() and not waiting.cancel()


def test_closing_does_not_wait_for_evaluations() -> None:
    """An abort is an abort: the worker that hangs is gone with the pool."""
    with ScriptedPool(SCENARIO, 1) as pool:
        running = pool.submit(job(1))
        while pool._workers[0].begun is None:
            pool.attend()
        (process,) = pool.processes
    assert running.answer is None
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_workers_do_not_hold_the_lock_of_their_driver(tmp_path: Path) -> None:
    """A worker that outlives its driver must not keep the run from being resumed."""
    with ScriptedPool(SCENARIO, 1) as pool:
        with held(tmp_path):
            assert pool.submit(job(2)).result().reward == 2
        (process,) = pool.processes
        with held(tmp_path):
            os.kill(process, 0)


def test_what_a_worker_raises_reaches_the_caller() -> None:
    """A design that does not fit is the user's error, in the user's words."""
    wide = next(baseline for baseline in baselines(SCENARIO) if not baseline.limits)
    with LocalPool(SCENARIO, 1) as pool:
        with pytest.raises(QumosError, match="at most"):
            pool.submit(Job(wide.design)).result()
        assert pool.submit(Job(DESIGNS[0])).result().reward > 0


def essence(trials: list[Trial]) -> list[dict[str, object]]:
    """Everything but the clock."""
    return [trial.to_dict() | {"seconds": 0} for trial in trials]


def evolve(workers: int, budget: int = 16) -> list[Trial]:
    """A short evolution."""
    trials: list[Trial] = []
    settings = load_agent("evolution").settings_for("iris-smoke", {"population": 6, "tournament": 2}).model_dump()
    task = SearchTask(SCENARIO, budget, seed=5, workers=workers, settings=settings)
    load_agent("evolution").search(task, on_trial=trials.append, should_stop=lambda: False, on_stage=lambda _: None)
    return trials


def test_a_trace_does_not_depend_on_killed_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every evaluation loses its worker, some twice; other workers die before they have anything to do."""
    expected = essence(evolve(0))
    hear, kills = EvaluationPool._hear, []

    def hear_and_kill(pool: EvaluationPool, worker: Any, message: object) -> None:
        hear(pool, worker, message)  # type: ignore[arg-type]
        deadly = message == "begun" and worker.pending.attempts <= len(kills) % 2
        idle = message == "ready" and len(kills) % 7 == 0
        if deadly or idle:
            kills.append(message)
            os.kill(worker.process.pid, signal.SIGKILL)

    monkeypatch.setattr(EvaluationPool, "_hear", hear_and_kill)
    assert essence(evolve(2)) == expected
    assert kills.count("begun") >= len(expected) and "ready" in kills


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    """Also in the middle of an evaluation."""
    script = (
        "import sys, time\n"
        "from agents.pool import Job, LocalPool\n"
        "from agents.baselines import baselines\n"
        "from qumos_env import load_scenario\n"
        "if __name__ == '__main__':\n"
        "    scenario = load_scenario('digits-theft')\n"
        "    design = next(one.design for one in baselines(scenario) if one.limits)\n"
        "    with LocalPool(scenario, 2) as pool:\n"
        "        pending = [pool.submit(Job(design, seed)) for seed in range(10_000)]\n"
        "        pending[1].result()\n"
        "        print(*pool.processes, flush=True)\n"
        "        pending[-1].result()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while any(_alive(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_designs_travel_to_workers_unchanged() -> None:
    """The same outcome as in this process."""
    with LocalPool(SCENARIO, 0) as here, LocalPool(SCENARIO, 1) as there:
        jobs = [Job(design, seed) for design in DESIGNS[:2] for seed in (1, 2)]
        assert here.run(jobs) == there.run(jobs)
