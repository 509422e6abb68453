"""The pool as its callers know it: jobs are handed out one at a time to workers that may die, and come back as outcomes.

A backend says how a worker is started and how it is heard; who gets which job, what a death or a time-out costs whom, and in which
order results are told is the same for all of them. So a trace does not depend on the backend.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Protocol

from qumos_env.errors import QumosError, one_line
from qumos_env.evaluation.cache import Cache
from qumos_env.scenario import Scenario

from ..meter import DIED, LATE, Meter
from ..protocol import Outcome
from .jobs import Answer, Job, LevelsJob

ATTEMPTS = 10
"""Workers that may die of an evaluation before it counts as failed: more than chance kills, where something keeps killing workers."""
LATE_ATTEMPTS = 2
"""Time-outs before it does: one may be the machine's, that stood still."""
STARTS = 100
"""Workers in a row that may die before one of them is ready; then something is wrong with the machine."""
PAUSE_SECONDS = 0.1
READY, BEGUN = "ready", "begun"


class Death(Exception):
    """Said of a worker: it is gone. ``blameless``: not because of what it evaluated."""

    def __init__(self, reason: str, blameless: bool = False) -> None:
        super().__init__(reason)
        self.blameless = blameless


Message = str | Answer | Death
"""What is heard of a worker: ``READY``, ``BEGUN`` an evaluation, the answer, or its end."""


class NotStartedError(Exception):
    """A worker could not be started; another try may help."""


class Pending:
    """An evaluation under way."""

    def __init__(self, pool: EvaluationPool, job: Job | LevelsJob) -> None:
        self.job = job
        self.answer: Outcome | Exception | None = None
        self.attempts = 0
        self.late = 0
        self._pool = pool

    def result(self) -> Outcome:
        """Waits for the outcome; an evaluation that kills its worker ``ATTEMPTS`` times, or twice takes too long, is a failure.

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


class Worker(Protocol):
    """What evaluates one job at a time, somewhere.

    Attributes:
        name: tells it from all others of the run.
        ready: whether it has said so.
        begun: when it began its job, by ``time.monotonic``; ``None`` while it has not.
        pending: its job.
    """

    name: str
    ready: bool
    begun: float | None
    pending: Pending | None

    def give(self, pending: Pending) -> None:
        """Sends it ``pending``."""

    def end(self, patience: float = 0.0) -> None:
        """Ends it, after ``patience`` seconds in which it may end by itself."""


class EvaluationPool(ABC):
    """``workers`` workers that evaluate designs of one scenario; a context manager.

    For one thread: work is handed out while somebody waits for a result.

    Args:
        scenario: the problem.
        workers: how many; they start with the first evaluations.
        cache: path of the evaluation cache they share, a ``Cache`` that travels to them, or ``None``.
        limit: seconds that an evaluation may take, or ``None``.
        meter: counts what is done.
    """

    def __init__(
        self, scenario: Scenario, workers: int, cache: str | Cache | None = None, *, limit: float | None = None, meter: Meter | None = None
    ) -> None:
        self.scenario = scenario
        self.workers = workers
        self.cache = cache
        self.limit = limit
        self.meter = meter or Meter()
        self._waiting: deque[Pending] = deque()
        self._workers: list[Worker] = []
        self._unready = 0

    @abstractmethod
    def _start(self) -> Worker:
        """A new worker.

        Raises:
            NotStartedError: there is none.
        """

    @abstractmethod
    def _listen(self, seconds: float | None) -> Iterable[tuple[Worker, Message]]:
        """Waits until workers say something or die, at most so many seconds, and tells of it."""

    def submit(self, job: Job | LevelsJob) -> Pending:
        """Queues ``job``."""
        pending = Pending(self, job)
        self._waiting.append(pending)
        self._assign()
        return pending

    def run(self, jobs: Iterable[Job | LevelsJob], on_result: Callable[[int], None] | None = None) -> list[Outcome]:
        """The outcomes of ``jobs``, in their order; ``on_result`` is told how many are there."""
        return list(self._ordered(list(jobs), on_result))

    def _ordered(self, jobs: list[Job | LevelsJob], on_result: Callable[[int], None] | None) -> Iterator[Outcome]:
        # Without workers a job is run when it is submitted, so not before its turn: each is told of when it is there.
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
        """Waits until workers say something, die or take too long, takes that in and hands out what waits.

        Raises:
            QumosError: no worker starts.
        """
        if not self._workers:
            raise RuntimeError("nothing is under way")
        for worker, message in list(self._listen(self._patience())):
            if isinstance(message, Death):
                self._bury(worker, message)
            else:
                self._hear(worker, message)
        for worker in [one for one in self._workers if self._is_late(one)]:
            self._end_late(worker)
        self._assign()

    def _patience(self) -> float | None:
        """Seconds until the first evaluation takes too long."""
        begun = [worker.begun for worker in self._workers if worker.begun is not None]
        return max(0.0, min(begun) + self.limit - time.monotonic()) if begun and self.limit is not None else None

    def _is_late(self, worker: Worker) -> bool:
        return worker.begun is not None and self.limit is not None and time.monotonic() >= worker.begun + self.limit

    def _hear(self, worker: Worker, message: str | Answer) -> None:
        self._unready = 0
        if message == READY:
            worker.ready = True
            self.meter.joined(worker.name)
        elif message == BEGUN:
            worker.begun = time.monotonic()
        else:
            assert worker.pending is not None and isinstance(message, Answer)
            worker.pending.answer, worker.pending, worker.begun = message.result, None, None
            self.meter.answered(worker.name, message.seconds, message.cached, message.failure)

    def _bury(self, worker: Worker, death: Death) -> None:
        """Takes a dead worker's evaluation back: that one counts an attempt if it had begun."""
        self._dismiss(worker, patience=5.0)
        self.meter.deaths += 1
        if not worker.ready:
            self._not_ready(str(death))
        if worker.pending is not None:
            worker.pending.attempts += worker.begun is not None and not death.blameless
            self._again(worker.pending, worker.pending.attempts < ATTEMPTS, DIED)

    def _end_late(self, worker: Worker) -> None:
        """Ends an evaluation that takes too long, with its worker."""
        self._dismiss(worker)
        self.meter.late += 1
        assert worker.pending is not None
        worker.pending.late += 1
        self._again(worker.pending, worker.pending.late < LATE_ATTEMPTS, f"{LATE} {self.limit:g} s")

    def _dismiss(self, worker: Worker, patience: float = 0.0) -> None:
        self._workers.remove(worker)
        self.meter.left(worker.name)
        worker.end(patience)

    def _again(self, pending: Pending, again: bool, failure: str) -> None:
        if again:
            self._waiting.appendleft(pending)
        else:
            pending.answer = Outcome(0.0, {}, failure)
            self.meter.failed(failure)

    def _assign(self) -> None:
        """Hands out what waits to idle workers, and starts workers while there are too few of them."""
        for worker in self._workers:
            if worker.ready and worker.pending is None and self._waiting:
                worker.give(self._waiting.popleft())
        wanted = len(self._waiting) + sum(worker.pending is not None for worker in self._workers)
        while len(self._workers) < min(self.workers, wanted):
            try:
                self._workers.append(self._start())
            except NotStartedError as error:
                self._not_ready(one_line(error))
                time.sleep(PAUSE_SECONDS)

    def _not_ready(self, reason: str) -> None:
        self._unready += 1
        if self._unready >= STARTS:
            raise QumosError(f"no evaluation worker starts ({reason})")

    def close(self) -> None:
        """Ends the workers; evaluations without a result are dropped."""
        self._waiting.clear()
        while self._workers:
            self._dismiss(self._workers[-1])

    def __enter__(self) -> EvaluationPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
