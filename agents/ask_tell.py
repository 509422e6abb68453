"""Runs a searcher that can ask for a design and be told what it gave, with evaluations in worker processes.

Results are told in the order in which designs were asked for, each when exactly ``lag`` further designs have been asked
for. So the trace of a search depends on its seed and its lag and not on the number of workers or on who finishes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from qumos_env import Design
from qumos_env.errors import QumosError

from .pool import EvaluationPool, Job, Pending, open_pool
from .protocol import Ledger, Outcome, Search, SearchSummary, SearchTask, Trial, design_of, effort_limit, full_draws, possible_draws
from .settings import LAG, SearcherSettings, parse_settings

S = TypeVar("S", bound=SearcherSettings)


@dataclass(frozen=True)
class Proposal:
    """A design that a searcher wants measured.

    Attributes:
        actions: the effective actions that build it.
        draws: how many draws it wants, fewer where the budget has not so many left; ``None``: all of the scenario. In a proposal that a
            searcher is told of: how many the outcome rests on.
    """

    actions: tuple[int, ...]
    draws: int | None = None


class Searcher(Protocol):
    """A search strategy without any machinery."""

    def ask(self) -> Proposal | None:
        """The next design to try, or one asked for earlier with more draws; ``None`` where it has nothing to try before it is told more."""

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """What a design gave that was asked for earlier, or that the search began with."""


def ask_tell_search(name: str, kind: type[S], searcher: Callable[[SearchTask, S], Searcher]) -> Search:
    """The function ``search`` of an agent that is asked and told.

    Args:
        name: the agent's.
        kind: the class of its settings.
        searcher: makes the searcher of a task.
    """

    def search(
        task: SearchTask,
        *,
        on_trial: Callable[[Trial], None],
        should_stop: Callable[[], bool],
        on_stage: Callable[[str], None],
    ) -> SearchSummary:
        settings = parse_settings(kind, task.settings, name)
        found = searcher(task, settings)
        return run_ask_tell(task, found, on_trial=on_trial, should_stop=should_stop, on_stage=on_stage, lag=settings.lag)

    return search


@dataclass
class _Flight:
    proposal: Proposal
    """Its draws are those that the outcome rests on."""
    design: Design
    pending: Pending | Trial | None
    """The evaluation under way, the trial of an earlier session, or ``None`` where nothing new is measured."""


@dataclass
class _Asked:
    """What has been asked for, evaluations under way included: draws by design, their sum, and episodes that measure nothing."""

    task: SearchTask
    draws: dict[str, int] = field(default_factory=dict)
    spent: int = 0
    episodes: int = 0
    idle: int = 0

    @property
    def left(self) -> int:
        """Draws left to ask for; 0 also where there have been too many episodes."""
        effort = self.spent + full_draws(self.task.scenario) * self.idle
        return self.task.draws - self.spent if effort < effort_limit(self.task) else 0

    def launch(self, proposal: Proposal, pool: EvaluationPool) -> _Flight:
        """Sends ``proposal`` on its way."""
        design = design_of(self.task.scenario, proposal.actions)
        known = self.draws.get(design.hash, 0)
        wanted = possible_draws(self.task.scenario, proposal.draws)
        measured = max(known, possible_draws(self.task.scenario, min(wanted, known + self.left)))
        pending: Pending | Trial | None = None
        if self.episodes < len(self.task.history):
            pending = self.task.history[self.episodes]
            # A smaller budget may have left fewer draws.
            measured, most = pending.draws_of(self.task.scenario), max(known, measured)
            if pending.actions != proposal.actions or not known <= measured <= most:
                raise QumosError(
                    f"trial {self.episodes} of the trace is not what this search does: made with another seed, settings or release"
                )
        elif measured > known:
            pending = pool.submit(Job(design, draws=None if measured == full_draws(self.task.scenario) else measured))
        self.episodes += 1
        self.idle += measured == known
        self.spent += measured - known
        self.draws[design.hash] = measured
        return _Flight(Proposal(proposal.actions, measured), design, pending)


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
    asked = _Asked(task)
    starts = deque(task.starts)
    exhausted = False
    on_stage("replaying the trace" if task.history else "starting the workers" if task.workers else "searching")
    fresh = 0
    with open_pool(task.scenario, task.workers, task.cache, address=task.address, limit=task.limit, meter=task.meter) as pool:
        while True:
            while len(flights) < lag and asked.left > 0 and not should_stop():
                proposal = Proposal(starts.popleft()) if starts else searcher.ask()
                exhausted = proposal is None
                if proposal is None:
                    break
                flights.append(asked.launch(proposal, pool))
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
                trial = ledger.record(flight.proposal.actions, outcome, flight.proposal.draws, flight.design)
            searcher.tell(flight.proposal, Outcome(trial.reward, trial.evaluation, trial.failure))
    return ledger.summary(exhausted=exhausted)


def _outcome(flight: _Flight, ledger: Ledger) -> Outcome:
    if isinstance(flight.pending, Pending):
        return flight.pending.result()
    # Told in order, so the trial that measured the same design is there by now.
    first = ledger.known(flight.design.hash)
    assert first is not None
    return Outcome(first.reward, first.evaluation, first.failure)
