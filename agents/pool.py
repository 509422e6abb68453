"""Evaluating designs in worker processes.

Workers keep one ``Evaluator`` each and use one thread, so that ``workers`` evaluations run side by side and what is measured does
not depend on how many they are. They are forked from a server process that has loaded the libraries, once, and done nothing else: that
takes seconds, a further worker hardly any time, so that one that dies is soon replaced. Each has a pipe of its own, over which it gets
one evaluation at a time and says when it has begun: so it is known which evaluation a worker died of, and that one alone counts an
attempt. (An executor of ``concurrent.futures`` or loky breaks as a whole when a worker dies, and with it all that only waited.)
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Literal

from qumos_env import Design, Evaluator
from qumos_env.errors import EvaluationFailure, QumosError, one_line
from qumos_env.evaluation.table_evaluator import evaluator_of
from qumos_env.scenario import Scenario, parse_scenario

from .protocol import Outcome

Rows = Literal["search", "test"]
ATTEMPTS = 10
"""Workers that may die of an evaluation before it counts as failed: more than chance kills, where something keeps killing workers."""
STARTS = 100
"""Workers in a row that may die before one of them is ready; then something is wrong with the machine."""
PAUSE_SECONDS = 0.1
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_READY, _BEGUN = "ready", "begun"


@dataclass(frozen=True)
class Job:
    """One evaluation: the design, the evaluation seed (``None``: the scenario's), the rows that score it, whether the limits of the
    scenario are held against it, and how many of its draws are taken (``None``: all)."""

    design: Design
    seed: int | None = None
    rows: Rows = "search"
    limits: bool = True
    draws: int | None = None


def evaluate(evaluator: Evaluator, job: Job) -> Outcome:
    """Runs ``job``; a design whose training breaks down gives reward 0 and the reason."""
    try:
        evaluation = evaluator.evaluate(job.design, seed=job.seed, rows=job.rows, limits=job.limits, draws=job.draws)
    except EvaluationFailure as failure:
        return Outcome(0.0, {}, one_line(failure))
    return Outcome(float(evaluation.reward), evaluation.to_dict(), "")


def serve(connection: Connection, scenario: dict[str, object], cache: str | None) -> None:
    """The life of a worker: evaluates what comes over ``connection`` until that closes."""
    # Ctrl-C reaches the whole group: the parent decides what to keep.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    evaluator: Evaluator | None = None
    try:
        connection.send(_READY)
        while True:
            job = connection.recv()
            connection.send(_BEGUN)
            answer: Outcome | Exception
            try:
                # Not before the first job, so that an error reaches whoever waits for its result.
                evaluator = evaluator or evaluator_of(parse_scenario(scenario), cache=cache)
                answer = evaluate(evaluator, job)
            except Exception as error:
                # Whatever it is, it is raised again where the result is asked for. Not every exception travels.
                answer = error if isinstance(error, QumosError) else RuntimeError(f"{type(error).__name__}: {one_line(error)}")
            connection.send(answer)
    except (EOFError, OSError):
        return  # nobody is at the other end any more


def _leave_with_parent() -> None:
    """Ends this worker with its parent, also in the middle of an evaluation."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


class Pending:
    """An evaluation under way."""

    def __init__(self, pool: EvaluationPool, job: Job) -> None:
        self.job = job
        self.answer: Outcome | Exception | None = None
        self.attempts = 0
        self._pool = pool

    def result(self) -> Outcome:
        """Waits for the outcome; an evaluation that kills its worker ``ATTEMPTS`` times is a failure.

        Raises:
            QumosError: the evaluation cannot be run at all, or no worker starts.
        """
        while self.answer is None:
            self._pool.attend()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def cancel(self) -> bool:
        """Takes it back if no worker has it; returns whether that was so."""
        return self._pool.withdraw(self)


class _Worker:
    """A worker process and the evaluation that it was given."""

    def __init__(self, pool: EvaluationPool) -> None:
        self.connection, theirs = _CONTEXT.Pipe()
        arguments = (theirs, pool.scenario.model_dump(mode="json"), pool.cache)
        self.process = _CONTEXT.Process(target=pool.target, args=arguments, daemon=True)
        try:
            with _born_quiet():
                self.process.start()
        except BaseException:
            self.connection.close()
            raise
        finally:
            # Only the worker holds that end now, so it closes when the worker ends.
            theirs.close()
        self.ready = False
        self.begun = False
        self.pending: Pending | None = None

    def give(self, pending: Pending) -> None:
        """Sends it ``pending``."""
        self.pending, self.begun = pending, False
        try:
            self.connection.send(pending.job)
        except OSError:
            pass  # it has just died, which is noticed when its end of the pipe is read

    def end(self, patience: float = 0.0) -> None:
        """Ends the process, after ``patience`` seconds in which it may end by itself."""
        self.process.join(patience)
        self.process.kill()
        self.process.join()
        self.connection.close()


class EvaluationPool:
    """``workers`` processes that evaluate designs of one scenario; 0 evaluates in this process. A context manager.

    For one thread: work is handed out while somebody waits for a result.

    Args:
        scenario: the problem.
        workers: number of processes; they start with the first evaluations.
        cache: path of the evaluation cache they share, or ``None``.
    """

    target = staticmethod(serve)

    def __init__(self, scenario: Scenario, workers: int, cache: str | None = None) -> None:
        self.scenario = scenario
        # What is looked up takes less time than the way to a worker.
        self.workers = workers if scenario.table is None else 0
        self.cache = cache
        self._waiting: deque[Pending] = deque()
        self._workers: list[_Worker] = []
        self._unready = 0
        self._local: Evaluator | None = None

    @property
    def processes(self) -> list[int]:
        """The process ids of the workers."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def submit(self, job: Job) -> Pending:
        """Queues ``job``; without workers it is run at once."""
        pending = Pending(self, job)
        if self.workers:
            self._waiting.append(pending)
            self._assign()
        else:
            self._local = self._local or evaluator_of(self.scenario, cache=self.cache)
            pending.answer = evaluate(self._local, job)
        return pending

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

    def withdraw(self, pending: Pending) -> bool:
        """Forgets ``pending`` if no worker has it; returns whether that was so."""
        if pending not in self._waiting:
            return False
        self._waiting.remove(pending)
        return True

    def attend(self) -> None:
        """Waits until workers say something or die, takes that in and hands out what waits.

        Raises:
            QumosError: no worker starts.
        """
        if not self._workers:
            raise RuntimeError("nothing is under way")
        told = wait([worker.connection for worker in self._workers])
        for worker in [one for one in self._workers if one.connection in told]:
            try:
                self._hear(worker, worker.connection.recv())
            except (EOFError, OSError):
                self._bury(worker)
        self._assign()

    def _hear(self, worker: _Worker, message: str | Outcome | Exception) -> None:
        if isinstance(message, str):
            worker.ready, worker.begun = True, message == _BEGUN
            self._unready = 0
        else:
            assert worker.pending is not None
            worker.pending.answer, worker.pending = message, None

    def _bury(self, worker: _Worker) -> None:
        """Takes a dead worker's evaluation back: that one counts an attempt if it had begun."""
        self._workers.remove(worker)
        worker.end(patience=5.0)
        if not worker.ready:
            self._not_ready(f"exit code {worker.process.exitcode}")
        if worker.pending is not None:
            worker.pending.attempts += worker.begun
            if worker.pending.attempts < ATTEMPTS:
                self._waiting.appendleft(worker.pending)
            else:
                worker.pending.answer = Outcome(0.0, {}, "the process that evaluates it died")

    def _assign(self) -> None:
        """Hands out what waits to idle workers, and starts workers while there are too few of them."""
        for worker in self._workers:
            if worker.ready and worker.pending is None and self._waiting:
                worker.give(self._waiting.popleft())
        wanted = len(self._waiting) + sum(worker.pending is not None for worker in self._workers)
        while len(self._workers) < min(self.workers, wanted):
            try:
                self._workers.append(_Worker(self))
            except (EOFError, OSError) as error:
                # The server process may have been killed; once that is noticed, the next worker starts it again.
                self._not_ready(one_line(error) or type(error).__name__)
                time.sleep(PAUSE_SECONDS)

    def _not_ready(self, reason: str) -> None:
        self._unready += 1
        if self._unready >= STARTS:
            raise QumosError(f"no evaluation worker starts ({reason})")

    def close(self) -> None:
        """Ends the workers; evaluations without a result are dropped."""
        self._waiting.clear()
        while self._workers:
            self._workers.pop().end()

    def __enter__(self) -> EvaluationPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


@contextmanager
def _born_quiet() -> Iterator[None]:
    """Children that start in the block use one thread each and hear no Ctrl-C before they have said what to do with it."""
    resource_tracker.ensure_running()  # would unblock the signal if it were started with the child
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    # Libraries read their thread counts when they are loaded, so children must inherit them.
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
