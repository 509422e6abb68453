"""Evaluating designs in this process, or in worker processes on this machine.

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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait

from qumos_env import Evaluator
from qumos_env.audit.processes import end_with_parent
from qumos_env.errors import one_line
from qumos_env.evaluation.cache import Cache
from qumos_env.evaluation.table_evaluator import evaluator_of
from qumos_env.scenario import parse_scenario

from .base import BEGUN, READY, Death, EvaluationPool, Message, NotStartedError, Pending, Worker
from .jobs import Answer, Job, LevelsJob, evaluate, refusal

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_HERE = "this process"


def serve(connection: Connection, scenario: dict[str, object], cache: str | Cache | None) -> None:
    """The life of a worker: evaluates what comes over ``connection`` until that closes."""
    # Ctrl-C reaches the whole group: the parent decides what to keep.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=end_with_parent, daemon=True).start()
    evaluator: Evaluator | None = None
    try:
        connection.send(READY)
        while True:
            job = connection.recv()
            connection.send(BEGUN)
            try:
                # Not before the first job, so that an error reaches whoever waits for its result.
                evaluator = evaluator or Evaluator(parse_scenario(scenario), cache=cache)
                answer = evaluate(evaluator, job)
            except Exception as error:
                # Whatever it is, it is raised again where the result is asked for.
                answer = Answer(refusal(error))
            connection.send(answer)
    except (EOFError, OSError):
        return  # nobody is at the other end any more


class _Process:
    """A worker process and the evaluation that it was given."""

    def __init__(self, pool: LocalPool) -> None:
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
        self.name = f"process {self.process.pid}"
        self.ready = False
        self.begun: float | None = None
        self.pending: Pending | None = None

    def give(self, pending: Pending) -> None:
        """See ``Worker``."""
        self.pending = pending
        try:
            self.connection.send(pending.job)
        except OSError:
            pass  # it has just died, which is noticed when its end of the pipe is read

    def end(self, patience: float = 0.0) -> None:
        """See ``Worker``."""
        self.process.join(patience)
        self.process.kill()
        self.process.join()
        self.connection.close()


class LocalPool(EvaluationPool):
    """Worker processes; 0 of them: everything is evaluated in this process, where no time limit holds."""

    target = staticmethod(serve)
    _evaluator: Evaluator | None = None

    @property
    def processes(self) -> list[int]:
        """The process ids of the workers."""
        return [one.process.pid for one in self._workers if isinstance(one, _Process) and one.process.pid is not None]

    def submit(self, job: Job | LevelsJob) -> Pending:
        """Queues ``job``; without workers it is run at once."""
        if self.workers:
            return super().submit(job)
        if self._evaluator is None:
            self._evaluator = evaluator_of(self.scenario, cache=self.cache)
            self.meter.joined(_HERE)
        pending = Pending(self, job)
        answer = evaluate(self._evaluator, job)
        self.meter.answered(_HERE, answer.seconds, answer.cached, answer.failure)
        pending.answer = answer.result
        return pending

    def _start(self) -> Worker:
        try:
            return _Process(self)
        except (EOFError, OSError) as error:
            # The server process may have been killed; once that is noticed, the next worker starts it again.
            raise NotStartedError(one_line(error) or type(error).__name__) from error

    def _listen(self, seconds: float | None) -> Iterable[tuple[Worker, Message]]:
        processes = [one for one in self._workers if isinstance(one, _Process)]
        told = wait([one.connection for one in processes], seconds)
        for one in processes:
            if one.connection not in told:
                continue
            try:
                yield one, one.connection.recv()
            except (EOFError, OSError):
                one.process.join(5.0)
                yield one, Death(f"exit code {one.process.exitcode}")

    def close(self) -> None:
        """Ends the workers; evaluations without a result are dropped."""
        super().close()
        self.meter.left(_HERE)


_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


@contextmanager
def _born_quiet() -> Iterator[None]:
    """Children that start in the block use one thread each and hear no Ctrl-C before they have said what to do with it."""
    resource_tracker.ensure_running()  # would unblock the signal if it were started with the child
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    # Libraries read their thread counts when they are loaded, so children must inherit them.
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
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
