"""How a search goes on: on the terminal, and as lines of JSON in the run directory."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from types import TracebackType

from agents import Trial
from agents.meter import Meter, Work
from agents.protocol import full_draws

from . import display
from .results import finite
from .rundir import PROGRESS, RunDirectory, written
from .stopping import StopRequest

LINE_EVERY_SECONDS = 5.0


class SearchProgress:
    """Counts trials, shows them, and appends the state to ``progress.jsonl`` every few seconds and at the end. A context manager.

    A line holds ``seconds`` (of the search, earlier sessions included), ``trials``, ``designs`` (trained models as so many full
    evaluations), ``best`` (reward of a design measured with all draws) and what the workers did so far, see ``agents.meter.Work``.
    """

    def __init__(self, run: RunDirectory, work: display.Work, stop: StopRequest, earlier: Sequence[Trial], meter: Meter) -> None:
        self._work = work
        self._scenario = run.plan.scenario
        self._budget = run.plan.budget
        self._stop = stop
        self._meter = meter
        self._path = run.path / PROGRESS
        self._last_line = time.monotonic()
        self._draws: dict[str, int] = {}
        self._best = float("-inf")
        self._first: float | None = None
        self._at_first = 0.0
        self._trials = len(earlier)
        self._seconds = 0.0
        for trial in earlier:
            self._take(trial)
        if earlier:
            self._first, self._at_first = earlier[-1].seconds, self._done

    @property
    def _done(self) -> float:
        """Trained models, as so many full evaluations."""
        return sum(self._draws.values()) / full_draws(self._scenario)

    def _take(self, trial: Trial) -> bool:
        if trial.design_hash and not trial.repeated:
            self._draws[trial.design_hash] = trial.draws_of(self._scenario)
        better = trial.is_full(self._scenario) and not trial.failure and trial.reward > self._best
        if better:
            self._best = trial.reward
        return better

    def add(self, trial: Trial) -> bool:
        """Shows ``trial``; returns whether it is the best so far of those measured with all draws."""
        if self._first is None:
            self._first = trial.seconds
        better = self._take(trial)
        self._trials, self._seconds = trial.index + 1, trial.seconds
        elapsed = trial.seconds - self._first
        rate = (self._done - self._at_first) / elapsed if elapsed > 0 else 0.0
        left = (self._budget - self._done) / rate if rate else float("inf")
        left = min(left, self._stop.seconds_left)
        best = f"best {self._best:.3f}  " if self._best > float("-inf") else ""
        remaining = f"  {display.duration(left)} left" if left < float("inf") else ""
        self._work.at(int(self._done), f"{best}{rate:.1f} designs/s{_of_workers(self._meter.read())}{remaining}")
        if time.monotonic() - self._last_line >= LINE_EVERY_SECONDS:
            self._write()
        return better

    def _write(self) -> None:
        self._last_line = time.monotonic()
        best = self._best if self._best > float("-inf") else None
        state = {"seconds": self._seconds, "trials": self._trials, "designs": self._done, "best": best}
        line = json.dumps(finite(state | self._meter.read().model_dump()), sort_keys=True) + "\n"
        with written(self._path), self._path.open("a", encoding="utf-8") as handle:
            handle.write(line)

    def __enter__(self) -> SearchProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._write()


def _of_workers(work: Work) -> str:
    """What is worth saying of ``work`` while it goes on."""
    if not work.evaluations:
        return ""
    words = [f"{work.rate:.2f} a worker and second" if work.workers > 1 else ""]
    words.append(f"{work.idle_share:.0%} idle" if work.workers > 1 and work.idle_share is not None else "")
    words.append(f"{work.hits} from the cache" if work.hits else "")
    words += [f"{count} failed ({kind})" for kind, count in sorted(work.failures.items())]
    words.append(f"{work.deaths} workers lost" if work.deaths else "")
    return "".join(f", {word}" for word in words if word)
