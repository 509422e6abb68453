"""What every agent is to the rest: a function from a ``SearchTask`` to a stream of ``Trial``.

The budget of a search is a number of *distinct* designs: a design met again costs an episode but no evaluation. A search
also ends after ``EPISODES_PER_BUDGET`` times as many episodes, for agents that collapse onto designs they know, and as soon
as ``should_stop`` says so. ``Ledger`` does this book-keeping for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

from pydantic import Field

from qumos_env import Design
from qumos_env.env.actions import DesignState
from qumos_env.errors import QumosError
from qumos_env.records import LARGEST, Record
from qumos_env.scenario import Scenario

EPISODES_PER_BUDGET = 5
Scalar = float | int | str | bool | None
Stop = Literal["budget", "episodes", "stopped"]


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
        repeated: whether this search had met the design before.
        seconds: when the result arrived, in seconds since the search began (earlier sessions of a resumed search included).
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

    def to_dict(self) -> dict[str, object]:
        """Plain JSON data."""
        return self.model_dump()


@dataclass(frozen=True)
class SearchTask:
    """One search to run.

    Attributes:
        scenario: the problem.
        budget: how many distinct designs may be evaluated, the ones in ``starts`` and ``history`` included.
        seed: seed of the agent's own randomness; evaluations use the scenario's seed.
        workers: processes that evaluate at the same time; 0 evaluates in this process.
        cache: path of the evaluation cache shared by the processes, or ``None``.
        settings: the agent's settings, see ``agents.settings``.
        starts: action sequences that are evaluated before the search's own (warm start).
        history: trials of an interrupted search of the same kind, to go on from.
        checkpoint: absolute path of the file for the agent's checkpoint, or ``None`` for no checkpoint.
    """

    scenario: Scenario
    budget: int
    seed: int = 0
    workers: int = 1
    cache: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    starts: tuple[tuple[int, ...], ...] = ()
    history: tuple[Trial, ...] = ()
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise QumosError(f"budget is {self.budget}; at least one evaluation is needed")
        if self.workers < 0:
            raise QumosError(f"workers is {self.workers}; 0 or more are needed")


@dataclass(frozen=True)
class SearchSummary:
    """How a search went.

    Attributes:
        distinct: distinct designs evaluated.
        episodes: episodes played.
        stopped: ``budget``, ``episodes`` (too many of them) or ``stopped`` (time limit or interrupt).
    """

    distinct: int
    episodes: int
    stopped: Stop


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
    """The book-keeping of one search: numbers trials, knows repeated designs, says when the search is over."""

    def __init__(self, task: SearchTask, on_trial: Callable[[Trial], None], should_stop: Callable[[], bool]) -> None:
        self.task = task
        self.trials: list[Trial] = []
        self._on_trial = on_trial
        self._should_stop = should_stop
        self._known: dict[str, Trial] = {}
        self._start = time.monotonic()

    @property
    def distinct(self) -> int:
        """Distinct designs evaluated so far."""
        return len(self._known)

    @property
    def episode_limit(self) -> int:
        """Episodes after which the search ends whatever it found."""
        return EPISODES_PER_BUDGET * self.task.budget

    @property
    def episodes_left(self) -> int:
        """How many more episodes may be played without any risk of exceeding budget or episode limit."""
        return max(0, min(self.task.budget - self.distinct, self.episode_limit - len(self.trials)))

    def interrupted(self) -> bool:
        """Whether the time is up or the user wants to stop."""
        return self._should_stop()

    def finished(self) -> bool:
        """Whether no further episode may be played."""
        return self.episodes_left == 0 or self.interrupted()

    def known(self, design_hash: str) -> Trial | None:
        """The first trial of that design, if there is one."""
        return self._known.get(design_hash)

    def record(self, actions: Sequence[int], outcome: Outcome) -> Trial:
        """Appends one finished episode and passes it on.

        Args:
            actions: the effective actions; design and hash are derived from them.
            outcome: what its evaluation gave.
        """
        state = DesignState(self.task.scenario).replay(actions)
        design = state.design() if state.done else None
        design_hash = design.hash if design is not None else ""
        # A trial without a design never counts as a repetition.
        trial = Trial(
            index=len(self.trials),
            design=design.to_dict() if design is not None else {},
            design_hash=design_hash,
            actions=tuple(int(action) for action in actions),
            reward=float(outcome.reward),
            evaluation=dict(outcome.evaluation),
            failure=outcome.failure,
            repeated=design_hash in self._known,
            seconds=round(time.monotonic() - self._start, 3),
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
        self._append(trial)
        self._start = time.monotonic() - trial.seconds

    def _append(self, trial: Trial) -> None:
        if trial.design_hash:
            self._known.setdefault(trial.design_hash, trial)
        self.trials.append(trial)

    def summary(self) -> SearchSummary:
        """The counts, and why the search ended."""
        stopped: Stop = "stopped"
        if self.distinct >= self.task.budget:
            stopped = "budget"
        elif len(self.trials) >= self.episode_limit:
            stopped = "episodes"
        return SearchSummary(self.distinct, len(self.trials), stopped)


def design_of(scenario: Scenario, actions: Sequence[int]) -> Design:
    """The design that ``actions`` build.

    Raises:
        QumosError: the actions end before the design has its cut and assignment.
    """
    return DesignState(scenario).replay(actions).design()
