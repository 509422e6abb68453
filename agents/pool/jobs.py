"""What is evaluated, and what comes back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from qumos_env import Design, Evaluator
from qumos_env.errors import EvaluationFailure, QumosError, one_line

from ..protocol import Outcome

Rows = Literal["search", "test"]


@dataclass(frozen=True)
class Job:
    """One evaluation: the design, the evaluation seed (``None``: the scenario's), the rows that score it, whether the limits of the
    scenario are held against it, and how many of its draws are taken (``None``: all)."""

    design: Design
    seed: int | None = None
    rows: Rows = "search"
    limits: bool = True
    draws: int | None = None


@dataclass(frozen=True)
class Answer:
    """What a worker says of a job.

    Attributes:
        result: the outcome, or why there can be none.
        seconds: what it took.
        cached: whether the cache had it.
    """

    result: Outcome | Exception
    seconds: float = 0.0
    cached: bool = False

    @property
    def failure(self) -> str:
        """Why the evaluation broke down, or an empty string."""
        return self.result.failure if isinstance(self.result, Outcome) else ""


def evaluate(evaluator: Evaluator, job: Job) -> Answer:
    """Runs ``job``; a design whose training breaks down gives reward 0 and the reason.

    Raises:
        QumosError: it cannot be run at all.
    """
    start, hits = time.monotonic(), evaluator.hits
    try:
        evaluation = evaluator.evaluate(job.design, seed=job.seed, rows=job.rows, limits=job.limits, draws=job.draws)
        outcome = Outcome(float(evaluation.reward), evaluation.to_dict(), "")
    except EvaluationFailure as failure:
        outcome = Outcome(0.0, {}, one_line(failure))
    return Answer(outcome, time.monotonic() - start, evaluator.hits > hits)


def refusal(error: Exception) -> QumosError | RuntimeError:
    """``error`` as it travels to whoever asked: not every exception does."""
    return error if isinstance(error, QumosError) else RuntimeError(f"{type(error).__name__}: {one_line(error)}")
