"""Work on one scenario in several processes, each with an evaluator of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import TypeVar

from ..evaluation.evaluator import Evaluator
from ..scenario import Scenario

Progress = Callable[[int, int], None]
"""Called with steps done and steps in all."""
J = TypeVar("J")
R = TypeVar("R")


def silent(done: int, total: int) -> None:
    """No progress shown."""


def in_processes(
    scenario: Scenario, work: Callable[[Evaluator, J], R], jobs: Sequence[J], workers: int, on_progress: Progress = silent
) -> list[R]:
    """What ``work`` makes of every job, in order, in ``workers`` processes that hold an evaluator of ``scenario``."""

    def counted(results: Iterable[R]) -> Iterator[R]:
        for done, result in enumerate(results, 1):
            on_progress(done, len(jobs))
            yield result

    if workers <= 1:
        return list(counted(map(partial(work, Evaluator(scenario)), jobs)))
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (scenario,)) as pool:
        return list(counted(pool.map(partial(_with_evaluator, work), jobs, chunksize=2)))


_EVALUATOR: Evaluator | None = None


def _start(scenario: Scenario) -> None:
    global _EVALUATOR
    # A worker that waits for jobs holds both ends of their pipe, and so does not hear that who would send them was killed.
    threading.Thread(target=end_with_parent, daemon=True).start()
    _EVALUATOR = Evaluator(scenario)


def end_with_parent() -> None:
    """Waits for the end of the parent of this worker, then ends the worker, also in the middle of an evaluation."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _with_evaluator(work: Callable[[Evaluator, J], R], job: J) -> R:
    assert _EVALUATOR is not None
    return work(_EVALUATOR, job)
