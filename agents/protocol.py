"""What every agent is to the rest: a function from a ``SearchTask`` to a stream of ``Trial``.

A search pays for trained models. An evaluation with all K draws of the scenario trains K of them, and the budget of a search, a number
of designs, is worth K draws for each. An agent that measures a design with fewer draws can try more designs, and pays only for the new
draws when it measures one again with more; a design met again with no more draws costs an episode but no evaluation. A search also ends
when its episodes are ``EPISODES_PER_BUDGET`` times as many as its budget (those that measured only some draws count as their share), for
agents that collapse onto designs they know, and as soon as ``should_stop`` says so. ``Ledger`` does this book-keeping for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

from pydantic import Field

from qumos_env import Design
from qumos_env.env.actions import DesignState
from qumos_env.errors import QumosError
from qumos_env.evaluation.cache import Cache
from qumos_env.records import LARGEST, Record
from qumos_env.scenario import Scenario

from .clock import Clock
from .meter import Meter

EPISODES_PER_BUDGET = 5
Scalar = float | int | str | bool | None
Stop = Literal["budget", "episodes", "exhausted", "stopped"]


def full_draws(scenario: Scenario) -> int:
    """K, the draws of a full evaluation in ``scenario``."""
    return scenario.draws.count


def possible_draws(scenario: Scenario, wanted: int | None) -> int:
    """The least number of draws from ``wanted`` on that ``scenario`` can evaluate with; all for ``None``, and at most all.

    With ``half_split`` draws come in pairs; where draws serve each other as shadow models there must be enough of them.
    """
    full = full_draws(scenario)
    if wanted is None:
        return full
    step = 2 if scenario.draws.half_split else 1
    return min(full, step * math.ceil(max(wanted, scenario.least_draws) / step))


@dataclass(frozen=True)
class Outcome:
    """What evaluating one design gave.

    Attributes:
        reward: the scenario's reward; 0 after a failure.
        evaluation: the figures of the evaluation as flat JSON scalars; empty after a failure.
        failure: why the evaluation broke down, or an empty string.
    """

    reward: float
    evaluation: Mapping[str, Scalar] = field(default_factory=dict)
    failure: str = ""


class Trial(Record):
    """One episode of a search.

    Attributes:
        index: its number in the search, from 0.
        design: the design as plain JSON data; empty where an episode ended before there was one.
        design_hash: SHA-256 of the design; empty likewise.
        actions: the actions that had an effect.
        reward, evaluation, failure: as in ``Outcome``.
        repeated: whether nothing new was measured, since this search had met the design before with as many draws.
        seconds: when the result arrived, in seconds since the search began (earlier sessions of a resumed search included).
        draws: how many draws the reward rests on, 0 where there is no design; ``None``, as in older traces: all of the scenario.
    """

    index: Annotated[int, Field(ge=0, le=LARGEST)]
    design: dict[str, object]
    design_hash: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
    actions: tuple[Annotated[int, Field(ge=0, le=LARGEST)], ...]
    reward: Annotated[float, Field(ge=-1e12, le=1e12)]
    evaluation: dict[str, Scalar]
    failure: str
    repeated: bool
    seconds: Annotated[float, Field(ge=0, le=LARGEST)]
    draws: Annotated[int, Field(ge=0, le=LARGEST)] | None = None

    def draws_of(self, scenario: Scenario) -> int:
        """How many draws of ``scenario`` the reward rests on."""
        return full_draws(scenario) if self.draws is None else self.draws

    def is_full(self, scenario: Scenario) -> bool:
        """Whether there is a design, measured with all draws of ``scenario``: only such rewards may be compared."""
        return bool(self.design_hash) and self.draws_of(scenario) >= full_draws(scenario)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON data."""
        return self.model_dump()


@dataclass(frozen=True)
class SearchTask:
    """One search to run.

    Attributes:
        scenario: the problem.
        budget: how many distinct designs may be evaluated with all draws, the ones in ``starts`` and ``history`` included.
        seed: seed of the agent's own randomness; evaluations use the scenario's seed.
        workers: processes that evaluate at the same time; 0 evaluates in this process.
        cache: path of the evaluation cache shared by the processes, a ``Cache`` that travels to them, or ``None``.
        settings: the agent's settings, see ``agents.settings``.
        starts: action sequences that are evaluated before the search's own (warm start).
        history: trials of an interrupted search of the same kind, to go on from.
        checkpoint: absolute path of the file for the agent's checkpoint, or ``None`` for no checkpoint.
        address: of the Ray cluster that evaluates, which this process is connected to; ``None``: this machine.
        limit: seconds that an evaluation may take in a worker process, or ``None``.
        meter: counts what the workers do.
    """

    scenario: Scenario
    budget: int
    seed: int = 0
    workers: int = 1
    cache: str | Cache | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    starts: tuple[tuple[int, ...], ...] = ()
    history: tuple[Trial, ...] = ()
    checkpoint: str | None = None
    address: str | None = None
    limit: float | None = None
    meter: Meter | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise QumosError(f"budget is {self.budget}; at least one evaluation is needed")
        if self.workers < 0:
            raise QumosError(f"workers is {self.workers}; 0 or more are needed")

    @property
    def draws(self) -> int:
        """The budget in draws."""
        return self.budget * full_draws(self.scenario)


@dataclass(frozen=True)
class SearchSummary:
    """How a search went.

    Attributes:
        distinct: distinct designs evaluated, with however many draws.
        episodes: episodes played.
        stopped: ``budget``, ``episodes`` (too many of them), ``exhausted`` (the agent has nothing left to try) or ``stopped`` (time limit
            or interrupt).
        draws: models trained.
    """

    distinct: int
    episodes: int
    stopped: Stop
    draws: int


class Search(Protocol):
    """The function ``search`` of every agent module."""

    def __call__(
        self,
        task: SearchTask,
        *,
        on_trial: Callable[[Trial], None],
        should_stop: Callable[[], bool],
        on_stage: Callable[[str], None],
    ) -> SearchSummary:
        """Runs ``task``.

        Args:
            task: what to search.
            on_trial: called with every new trial, in order; trials of ``task.history`` are not repeated.
            should_stop: asked before each evaluation or batch; the search ends soon after it says ``True``.
            on_stage: called with a few words whenever something slow begins.
        """


class Ledger:
    """The book-keeping of one search: numbers trials, knows repeated designs, says when the search is over.

    Attributes:
        draws: models trained so far.
    """

    def __init__(self, task: SearchTask, on_trial: Callable[[Trial], None], should_stop: Callable[[], bool]) -> None:
        self.task = task
        self.trials: list[Trial] = []
        self.draws = 0
        self._idle = 0
        self._on_trial = on_trial
        self._should_stop = should_stop
        self._known: dict[str, Trial] = {}
        self._clock = Clock(task.workers)

    @property
    def distinct(self) -> int:
        """Distinct designs evaluated so far."""
        return len(self._known)

    @property
    def episodes_left(self) -> int:
        """How many more episodes may be played without any risk of exceeding budget or episode limit."""
        full = full_draws(self.task.scenario)
        return max(0, min(self.task.draws - self.draws, effort_limit(self.task) - self.draws - full * self._idle) // full)

    def interrupted(self) -> bool:
        """Whether the time is up or the user wants to stop."""
        return self._should_stop()

    def finished(self) -> bool:
        """Whether no further episode may be played."""
        return self.episodes_left == 0 or self.interrupted()

    def known(self, design_hash: str) -> Trial | None:
        """The trial of that design that measured it with the most draws, if there is one."""
        return self._known.get(design_hash)

    def record(self, actions: Sequence[int], outcome: Outcome, draws: int | None = None, built: Design | None = None) -> Trial:
        """Appends one finished episode and passes it on.

        Args:
            actions: the effective actions; design and hash are derived from them.
            outcome: what its evaluation gave.
            draws: how many draws that rests on; ``None``: all.
            built: the design of the actions, for whoever has it.
        """
        state = DesignState(self.task.scenario).replay(actions) if built is None else None
        design = state.design() if state is not None and state.done else built
        design_hash = design.hash if design is not None else ""
        measured = full_draws(self.task.scenario) if draws is None else draws
        known = self._known.get(design_hash)
        before = known.draws_of(self.task.scenario) if known is not None else 0
        # A trial without a design never counts as a repetition.
        trial = Trial(
            index=len(self.trials),
            design=design.to_dict() if design is not None else {},
            design_hash=design_hash,
            actions=tuple(int(action) for action in actions),
            reward=float(outcome.reward),
            evaluation=dict(outcome.evaluation),
            failure=outcome.failure,
            repeated=known is not None and measured <= before,
            seconds=round(self._clock.passed(outcome.evaluation, max(0, measured - before) / measured), 3),
            draws=measured if design is not None else 0,
        )
        self._append(trial)
        self._on_trial(trial)
        return trial

    def restore(self, trial: Trial) -> None:
        """Appends a trial of an earlier session; the clock goes on from it and nobody is told.

        Raises:
            QumosError: it has another number than the next one, or its actions do not build its design.
        """
        where = f"trial {len(self.trials)} of the trace"
        if trial.index != len(self.trials):
            raise QumosError(f"{where}: its index is {trial.index}")
        state = DesignState(self.task.scenario).replay(trial.actions)
        built = state.design() if state.done else None
        if state.history != list(trial.actions) or (built.hash if built else "") != trial.design_hash:
            raise QumosError(f"{where}: its actions do not build its design in scenario {self.task.scenario.name}")
        if trial.design != (built.to_dict() if built else {}):
            raise QumosError(f"{where}: its design is not the one of its hash")
        if trial.draws_of(self.task.scenario) > full_draws(self.task.scenario):
            raise QumosError(f"{where}: measured with {trial.draws} draws, the scenario has {full_draws(self.task.scenario)}")
        self._append(trial)
        self._clock.go_on_from(trial.seconds)

    def _append(self, trial: Trial) -> None:
        known = self._known.get(trial.design_hash)
        fresh = trial.draws_of(self.task.scenario) - (known.draws_of(self.task.scenario) if known is not None else 0)
        if trial.design_hash and fresh > 0:
            self._known[trial.design_hash] = trial
            self.draws += fresh
        else:
            self._idle += 1
        self.trials.append(trial)

    def summary(self, *, exhausted: bool = False) -> SearchSummary:
        """The counts, and why the search ended; ``exhausted``: because the agent had nothing left to try."""
        full = full_draws(self.task.scenario)
        stopped: Stop = "exhausted" if exhausted else "stopped"
        if self.draws >= self.task.draws:
            stopped = "budget"
        elif self.draws + full * self._idle >= effort_limit(self.task):
            stopped = "episodes"
        return SearchSummary(self.distinct, len(self.trials), stopped, self.draws)


def effort_limit(task: SearchTask) -> int:
    """What a search may spend whatever it finds, in draws; an episode that measures nothing counts as a full evaluation."""
    return EPISODES_PER_BUDGET * task.draws


def design_of(scenario: Scenario, actions: Sequence[int]) -> Design:
    """The design that ``actions`` build.

    Raises:
        QumosError: the actions end before the design has its cut and assignment.
    """
    return DesignState(scenario).replay(actions).design()
