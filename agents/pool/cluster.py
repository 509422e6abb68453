"""Evaluating designs on a Ray cluster: one actor per worker, each with one processor and one evaluation at a time.

Actors rather than tasks: an actor says once where it is and which code it has, keeps its data between evaluations, and begins a job when
it gets it, so that a time limit counts from then. One that dies is replaced; Ray puts it where there is room, also on nodes that
joined later. The cache is an actor too, see ``agents.shared_cache``.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import ray

from qumos_env import Evaluator
from qumos_env.errors import QumosError, one_line
from qumos_env.evaluation.cache import Cache
from qumos_env.scenario import Scenario, parse_scenario

from ..meter import Meter
from ..shared_cache import shared_cache
from .base import READY, Death, EvaluationPool, Message, Pending, Worker
from .jobs import Answer, Job, LevelsJob, evaluate, refusal
from .local import THREAD_VARIABLES
from .source import Source, source

NOTICE_SECONDS = 30.0
"""Between two warnings that there is no room for a single worker."""
UNFIT = 3
"""Workers in a row that cannot be made before the search ends: one may have begun on a node that was just going."""
_LOG = logging.getLogger(__name__)
_NODE_DEATH = re.compile(r"node (has )?(died|was (terminated|dead))|node .*(unexpected|lost)|preempt", re.IGNORECASE)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Greeting:
    """What a worker says of itself: where it is, what it runs, and which rows it has (or why it has none)."""

    node: str
    process: int
    source: Source
    rows: str
    trouble: str = ""


class Evaluating:
    """A worker, on whatever node; made an actor by the pool."""

    def __init__(self, scenario: dict[str, object], cache: Cache | None) -> None:
        self._scenario = parse_scenario(scenario)
        self._evaluator = Evaluator(self._scenario, cache=cache)

    def greeting(self) -> Greeting:
        """Where and what this is."""
        address, rows, trouble = ray.util.get_node_ip_address(), "", ""
        try:
            rows = self._evaluator.workload.digest
        except (QumosError, OSError, ValueError) as error:
            trouble = one_line(error)
        return Greeting(address, os.getpid(), source(), rows, trouble)

    def evaluate(self, job: Job | LevelsJob) -> Answer:
        """The answer to ``job``."""
        try:
            return evaluate(self._evaluator, job)
        except Exception as error:
            # Whatever it is, it is raised again where the result is asked for.
            return Answer(refusal(error))


class _Actor:
    """The driver's side of a worker: the actor and the one call that is under way."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.name = f"worker {next(_numbers)}"
        self.ready = False
        self.begun: float | None = None
        self.pending: Pending | None = None
        self.call = actor.greeting.remote()

    def give(self, pending: Pending) -> None:
        """See ``Worker``."""
        self.pending, self.begun = pending, time.monotonic()
        self.call = self.actor.evaluate.remote(pending.job)

    def end(self, patience: float = 0.0) -> None:
        """See ``Worker``."""
        try:
            ray.kill(self.actor)
        except (ray.exceptions.RayError, ValueError):
            pass  # it is gone


class ClusterPool(EvaluationPool):
    """Actors on the cluster that this process is connected to; see ``EvaluationPool``."""

    evaluating = Evaluating

    def __init__(
        self, scenario: Scenario, workers: int, cache: str | Cache | None = None, *, limit: float | None = None, meter: Meter | None = None
    ) -> None:
        super().__init__(scenario, max(1, workers), cache, limit=limit, meter=meter)
        self._open = ExitStack()
        self._shared = self._open.enter_context(shared_cache(cache))
        self._rows = Evaluator(scenario).workload.digest
        self._noticed = time.monotonic()
        self._unfit = 0

    def _start(self) -> Worker:
        kind = ray.remote(self.evaluating).options(
            num_cpus=1, max_restarts=0, max_task_retries=0, runtime_env={"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")}
        )
        return _Actor(kind.remote(self.scenario.model_dump(mode="json"), self._shared))

    def _listen(self, seconds: float | None) -> Iterable[tuple[Worker, Message]]:
        calls = {one.call: one for one in self._workers if isinstance(one, _Actor) and (not one.ready or one.pending is not None)}
        try:
            told, _ = ray.wait(list(calls), timeout=NOTICE_SECONDS if seconds is None else min(seconds, NOTICE_SECONDS))
            if told:
                # What else is there by now comes along: a call for each would cost as much as the answers.
                told, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        except (ray.exceptions.RayError, RuntimeError) as error:
            raise QumosError(f"the Ray cluster broke down: {one_line(error, 200)}; what was found is kept, `resume` goes on") from error
        if not told and not any(one.ready for one in self._workers):
            self._warn()
        for call in told:
            yield calls[call], self._said(calls[call], call)

    def _said(self, worker: _Actor, call: Any) -> Message:
        """What ``call`` came back with.

        Raises:
            QumosError: the worker is not fit for this search, or cannot be made.
        """
        try:
            answer = ray.get(call)
        except ray.exceptions.RayActorError as error:
            reason = _reason(error)
            if not worker.ready and "Error" in reason:
                self._count_unfit(f"a worker{_place(error)} cannot be made: {reason} (every node needs the same packages)")
            return Death(reason, blameless=bool(_NODE_DEATH.search(str(error))))
        except ray.exceptions.RuntimeEnvSetupError as error:
            self._count_unfit(f"the code does not reach the workers: {one_line(error)}")
            return Death(one_line(error), blameless=True)
        except ray.exceptions.RayError as error:
            # What it found is lost, as where the node that held it is gone.
            return Death(one_line(error), blameless=True)
        if isinstance(answer, Greeting):
            self._check(answer)
            self._unfit = 0
            worker.name = f"{answer.node}/{answer.process}"
            return READY
        assert isinstance(answer, Answer)
        return answer

    def _count_unfit(self, message: str) -> None:
        self._unfit += 1
        if self._unfit >= UNFIT:
            raise QumosError(message)

    def _check(self, found: Greeting) -> None:
        where = f"the worker on node {found.node}"
        if found.source != source():
            raise QumosError(f"{where} runs other code ({found.source}) than this process ({source()}); bring both to one release")
        if found.trouble:
            raise QumosError(f"{where} cannot read the rows of {self.scenario.name}: {found.trouble} (is the folder shared with it?)")
        if found.rows != self._rows:
            raise QumosError(f"{where} has other rows for {self.scenario.name} than this process; share one folder, or copy the file")

    def _warn(self) -> None:
        if time.monotonic() - self._noticed < NOTICE_SECONDS:
            return
        self._noticed = time.monotonic()
        free, total = (resources().get("CPU", 0) for resources in (ray.available_resources, ray.cluster_resources))
        _LOG.warning("warning: no worker has found room yet: %g of %g processors of the cluster are free", free, total)

    def close(self) -> None:
        """Ends the workers and the cache's actor; evaluations without a result are dropped."""
        super().close()
        self._open.close()


def _reason(error: Exception) -> str:
    """The line of Ray's report that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return one_line((found or lines or [type(error).__name__])[-1])


def _place(error: Exception) -> str:
    found = re.search(r"ip=([\w.:]+)", str(error))
    return f" on node {found.group(1)}" if found else ""
