"""Dynamic batching: rows that arrive while others are under way go to the providers together.

Nobody waits for company: a request that finds the providers free goes at once, one that finds them busy goes with all that have
come meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

_Answer = TypeVar("_Answer")


class Overloaded(Exception):
    """More rows wait than there is room for, or for longer than an answer is worth."""


@dataclass
class _Waiting(Generic[_Answer]):
    rows: np.ndarray
    request: str
    since: float
    answer: asyncio.Future[tuple[_Answer, slice]]


class Batcher(Generic[_Answer]):
    """Puts rows together and hands out what comes back.

    Args:
        work: ``(rows [n, f], request ids) -> answer``; who asked gets the answer and the slice of their rows.
        most_rows: of one batch; a request is never split.
        most_waiting: rows that may wait.
        parallel: batches under way at once.
        seconds: that rows may wait.
    """

    def __init__(
        self,
        work: Callable[[np.ndarray, str], Awaitable[_Answer]],
        most_rows: int = 512,
        most_waiting: int = 8192,
        parallel: int = 2,
        seconds: float = 60.0,
    ) -> None:
        self._work, self._most_rows, self._most_waiting, self._parallel = work, most_rows, most_waiting, parallel
        self._seconds = seconds
        self._queue: deque[_Waiting[_Answer]] = deque()
        self._rows = 0
        self._busy = 0
        self._tasks: set[asyncio.Task[None]] = set()  # held, or they might be collected while they run

    async def submit(self, rows: np.ndarray, request: str) -> tuple[_Answer, slice]:
        """The answer to a batch that holds ``rows``, and where in it they are.

        Raises:
            Overloaded: too many rows wait already, or these waited for too long.
            Exception: what ``work`` raises.
        """
        if self._rows + len(rows) > self._most_waiting:
            raise Overloaded
        if not self._queue and self._busy < self._parallel:
            self._busy += 1
            try:
                return await self._work(rows, request), slice(0, len(rows))
            finally:
                self._free()
        waiting = _Waiting[_Answer](rows, request, time.monotonic(), asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._rows += len(rows)
        return await waiting.answer

    def _free(self) -> None:
        self._busy -= 1
        while self._queue and self._busy < self._parallel:
            self._busy += 1
            task = asyncio.get_running_loop().create_task(self._one())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self) -> None:
        try:
            await self._next_batch()
        finally:
            self._free()

    async def _next_batch(self) -> None:
        batch: list[_Waiting[_Answer]] = []
        size = 0
        while self._queue and (not batch or size + len(self._queue[0].rows) <= self._most_rows):
            waiting = self._queue.popleft()
            self._rows -= len(waiting.rows)
            if waiting.answer.cancelled():
                continue
            if time.monotonic() - waiting.since > self._seconds:
                waiting.answer.set_exception(Overloaded())
                continue
            batch.append(waiting)
            size += len(waiting.rows)
        if not batch:
            return
        try:
            answer = await self._work(np.concatenate([one.rows for one in batch]), ",".join(one.request for one in batch)[:200])
        except Exception as error:
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        start = 0
        for one in batch:
            if not one.answer.done():
                one.answer.set_result((answer, slice(start, start + len(one.rows))))
            start += len(one.rows)
