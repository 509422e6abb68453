"""What workers did: evaluations by worker, hits, failures by kind, and how much of their time workers waited."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from qumos_env.records import LARGEST, Record

Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
DIED, LATE = "the process that evaluates it died", "it took longer than"
"""What a failure says, or begins with, when it is not the design's."""
_MOST_WORKERS = 1000  # named in a record; of more only the sums are kept


class Work(Record):
    """What a pool did.

    Attributes:
        evaluations: finished ones, hits included.
        hits: those that the cache had.
        failures: by kind: ``training`` broke down, the ``worker`` died of it, the ``time limit``.
        deaths: workers that ended by themselves, whatever of.
        late: evaluations that were ended at the time limit, those that were run again included.
        workers: the most that were ready at a time.
        seconds: from the first evaluation to the last.
        idle_share: of the time that workers were ready; ``None`` before there is any.
        by_worker: evaluations by worker.
    """

    evaluations: Whole
    hits: Whole
    failures: dict[str, Whole]
    deaths: Whole
    late: Whole
    workers: Whole
    seconds: Seconds
    idle_share: Annotated[float, Field(ge=0, le=1)] | None
    by_worker: dict[str, Whole]

    @property
    def rate(self) -> float:
        """Evaluations per second and worker."""
        return self.evaluations / (self.seconds * self.workers) if self.seconds and self.workers else 0.0


class Meter:
    """Counts for one run, over all its pools; ``clock`` tells seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._ready_seconds = 0.0
        self._busy_seconds = 0.0
        self._first: float | None = None
        self._last = 0.0
        self._most = 0
        self._hits = 0
        self._by_worker: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self.deaths = 0
        self.late = 0

    def joined(self, worker: str) -> None:
        """``worker`` is ready."""
        now = self._clock()
        self._first = now if self._first is None else self._first
        self._since[worker] = now
        self._most = max(self._most, len(self._since))

    def left(self, worker: str) -> None:
        """``worker`` is gone; harmless where it was never ready."""
        self._ready_seconds += self._clock() - self._since.pop(worker, self._clock())

    def answered(self, worker: str, seconds: float, cached: bool, failure: str = "") -> None:
        """``worker`` has finished an evaluation in so many seconds."""
        self._last = self._clock()
        self._by_worker[worker] += 1
        self._hits += cached
        self._busy_seconds += seconds
        self.failed(failure)

    def failed(self, failure: str) -> None:
        """An evaluation ended with that failure, or with none: an empty string."""
        if failure:
            self._failures["time limit" if failure.startswith(LATE) else "worker" if failure == DIED else "training"] += 1

    def read(self) -> Work:
        """The counts so far."""
        now = self._clock()
        ready = self._ready_seconds + sum(now - since for since in self._since.values())
        return Work(
            evaluations=self._by_worker.total(),
            hits=self._hits,
            failures=dict(self._failures),
            deaths=self.deaths,
            late=self.late,
            workers=self._most,
            seconds=max(0.0, self._last - self._first) if self._first is not None else 0.0,
            idle_share=min(1.0, max(0.0, 1 - self._busy_seconds / ready)) if ready > 0 else None,
            by_worker=dict(self._by_worker) if len(self._by_worker) <= _MOST_WORKERS else {},
        )
