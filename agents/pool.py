"""Evaluating designs in worker processes.

Workers are spawned, keep one ``Evaluator`` each and use one thread, so that ``workers`` evaluations run side by side and a
figure does not depend on how many they are. A worker that dies is replaced and its evaluations are run again.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from types import TracebackType
from typing import Literal

from qumos_env import Design, Evaluator
from qumos_env.errors import EvaluationFailure, one_line
from qumos_env.scenario import Scenario, parse_scenario

from .protocol import Outcome

Rows = Literal["search", "test"]
ATTEMPTS = 3
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_scenario: Scenario | None = None
_cache: str | None = None
_evaluator: Evaluator | None = None


@dataclass(frozen=True)
class Job:
    """One evaluation: the design, the evaluation seed (``None``: the scenario's), the rows that score it and whether the
    limits of the scenario are held against it."""

    design: Design
    seed: int | None = None
    rows: Rows = "search"
    limits: bool = True


def evaluate(evaluator: Evaluator, job: Job) -> Outcome:
    """Runs ``job``; a design whose training breaks down gives reward 0 and the reason."""
    try:
        evaluation = evaluator.evaluate(job.design, seed=job.seed, rows=job.rows, limits=job.limits)
    except EvaluationFailure as failure:
        return Outcome(0.0, {}, one_line(failure))
    return Outcome(float(evaluation.reward), evaluation.to_dict(), "")


def _start_worker(scenario: dict[str, object], cache: str | None) -> None:
    global _scenario, _cache
    # Ctrl-C reaches the whole process group: the parent decides what to keep.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import torch

    torch.set_num_threads(1)
    _scenario, _cache = parse_scenario(scenario), cache
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()


def _leave_with_parent(parent: int) -> None:
    """Ends this worker when its parent was killed, which leaves it waiting for work for ever."""
    wait = threading.Event()
    while os.getppid() == parent:
        wait.wait(2.0)
    os._exit(1)


def _work(job: Job) -> Outcome:
    global _evaluator
    if _evaluator is None:
        # Not in the initializer, where an error would only break the pool; here it reaches whoever waits for the result.
        assert _scenario is not None
        _evaluator = Evaluator(_scenario, cache=_cache)
    return evaluate(_evaluator, job)


class Pending:
    """An evaluation under way."""

    def __init__(self, pool: EvaluationPool, job: Job) -> None:
        self._pool = pool
        self._job = job
        self._generation, self._future = pool._send(job)

    def result(self) -> Outcome:
        """Waits for the outcome; an evaluation that kills its worker ``ATTEMPTS`` times is a failure."""
        for _ in range(ATTEMPTS):
            try:
                return self._future.result()
            except BrokenProcessPool:
                self._pool._replace(self._generation)
                self._generation, self._future = self._pool._send(self._job)
        return Outcome(0.0, {}, "the process that evaluates it died")

    def done(self) -> bool:
        """Whether ``result`` returns at once."""
        return self._future.done()

    def cancel(self) -> bool:
        """Takes it back if no worker has begun it; returns whether that was so."""
        return self._future.cancel()


class EvaluationPool:
    """``workers`` processes that evaluate designs of one scenario; 0 evaluates in this process. A context manager.

    Args:
        scenario: the problem.
        workers: number of processes; they start with the first evaluation.
        cache: path of the evaluation cache they share, or ``None``.
    """

    def __init__(self, scenario: Scenario, workers: int, cache: str | None = None) -> None:
        self.scenario = scenario
        self.workers = workers
        self.cache = cache
        self._executor: ProcessPoolExecutor | None = None
        self._generation = 0
        self._local: Evaluator | None = None

    def submit(self, job: Job) -> Pending:
        """Queues ``job``."""
        return Pending(self, job)

    def run(self, jobs: Iterable[Job], on_result: Callable[[int], None] | None = None) -> list[Outcome]:
        """The outcomes of ``jobs``, in their order; ``on_result`` is told how many are there."""
        return list(self._ordered(list(jobs), on_result))

    def _ordered(self, jobs: list[Job], on_result: Callable[[int], None] | None) -> Iterator[Outcome]:
        pending = [self.submit(job) for job in jobs] if self.workers else None
        for number, job in enumerate(jobs):
            outcome = pending[number].result() if pending else self.submit(job).result()
            if on_result is not None:
                on_result(number + 1)
            yield outcome

    def _send(self, job: Job) -> tuple[int, Future[Outcome]]:
        if self.workers == 0:
            if self._local is None:
                self._local = Evaluator(self.scenario, cache=self.cache)
            future: Future[Outcome] = Future()
            future.set_result(evaluate(self._local, job))
            return self._generation, future
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self.workers,
                mp_context=get_context("spawn"),
                initializer=_start_worker,
                initargs=(self.scenario.model_dump(mode="json"), self.cache),
            )
        # Libraries read their thread counts when they are loaded, so the spawned children must inherit them.
        before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
        try:
            return self._generation, self._executor.submit(_work, job)
        except BrokenProcessPool:
            self._replace(self._generation)
            return self._send(job)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def _replace(self, generation: int) -> None:
        """Drops the executor of ``generation`` unless another waiter has done so."""
        if generation == self._generation and self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
            self._generation += 1

    def close(self) -> None:
        """Ends the workers; evaluations that have not begun are dropped."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def __enter__(self) -> EvaluationPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
