"""Runs a searcher that can ask for a design and be told its reward, with evaluations in worker processes.

Results are told in the order in which designs were asked for, each when exactly ``lag`` further designs have been asked
for. So the trace of a search depends on its seed and its lag and not on the number of workers or on who finishes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qumos_env.errors import QumosError

from .pool import EvaluationPool, Job, Pending
from .protocol import Ledger, Outcome, SearchSummary, SearchTask, Trial, design_of

LAG = 8
"""Designs under way at a time: keeps up to eight workers busy."""


class Searcher(Protocol):
    """A search strategy without any machinery."""

    def ask(self) -> list[int]:
        """The effective actions of the next design to try."""

    def tell(self, actions: list[int], reward: float) -> None:
        """The reward of a design asked for earlier."""


@dataclass
class _Flight:
    actions: list[int]
    design_hash: str
    pending: Pending | Trial | None
    """The evaluation under way, the trial of an earlier session, or ``None`` where the same design was asked for before."""


def run_ask_tell(
    task: SearchTask,
    searcher: Searcher,
    *,
    on_trial: Callable[[Trial], None],
    should_stop: Callable[[], bool],
    on_stage: Callable[[str], None],
    lag: int = LAG,
) -> SearchSummary:
    """Runs ``searcher`` on ``task``; the trials of ``task.history`` are replayed to it without evaluating anything.

    Raises:
        QumosError: the history is not what this searcher does with this seed and these settings.
    """
    ledger = Ledger(task, on_trial, should_stop)
    flights: deque[_Flight] = deque()
    asked: set[str] = set()
    starts = deque(task.starts)
    episodes = 0
    on_stage("replaying the trace" if task.history else "starting the workers" if task.workers else "searching")
    fresh = 0
    with EvaluationPool(task.scenario, task.workers, task.cache) as pool:
        while True:
            while len(flights) < lag and len(asked) < task.budget and episodes < ledger.episode_limit and not should_stop():
                actions = list(starts.popleft()) if starts else searcher.ask()
                flights.append(_launch(task, pool, actions, asked, episodes))
                asked.add(flights[-1].design_hash)
                episodes += 1
            if not flights:
                break
            flight = flights.popleft()
            if should_stop() and isinstance(flight.pending, Pending) and flight.pending.cancel():
                break
            if isinstance(flight.pending, Trial):
                trial = flight.pending
                ledger.restore(trial)
            else:
                outcome = _outcome(flight, ledger)
                if fresh == 0:
                    on_stage("searching")
                fresh += 1
                trial = ledger.record(flight.actions, outcome)
            searcher.tell(flight.actions, trial.reward)
    return ledger.summary()


def _launch(task: SearchTask, pool: EvaluationPool, actions: list[int], asked: set[str], episode: int) -> _Flight:
    design = design_of(task.scenario, actions)
    pending: Pending | Trial | None = None
    if episode < len(task.history):
        earlier = task.history[episode]
        if list(earlier.actions) != actions:
            raise QumosError(f"trial {episode} of the trace is not what this search does: made with another seed, settings or release")
        pending = earlier
    elif design.hash not in asked:
        pending = pool.submit(Job(design))
    return _Flight(actions, design.hash, pending)


def _outcome(flight: _Flight, ledger: Ledger) -> Outcome:
    if isinstance(flight.pending, Pending):
        return flight.pending.result()
    # Told in order, so the first trial of the same design is there by now.
    first = ledger.known(flight.design_hash)
    assert first is not None
    return Outcome(first.reward, first.evaluation, first.failure)
