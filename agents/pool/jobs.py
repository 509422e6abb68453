"""What is evaluated, and what comes back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from threadpoolctl import threadpool_limits

from qumos_env import Design, Evaluator
from qumos_env.errors import EvaluationFailure, QumosError, one_line
from qumos_env.evaluation.workload import ROWS

from ..clock import SECONDS
from ..protocol import Outcome, Scalar

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
class LevelsJob:
    """All evaluations of one design at once, on all rows and every number of draws, see ``Evaluator.evaluate_levels``.

    The outcome's reward is that with all draws on the search rows, its figures are called as ``level_name`` says, and ``seconds`` is what
    an evaluation with all draws on the search rows takes of one processor.
    """

    design: Design
    seed: int


def level_name(rows: Rows, draws: int, figure: str) -> str:
    """What a figure of an evaluation with ``draws`` draws scored on ``rows`` is called in the outcome of a ``LevelsJob``."""
    return f"{rows}.{draws}.{figure}"


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


def evaluate(evaluator: Evaluator, job: Job | LevelsJob) -> Answer:
    """Runs ``job``; a design whose training breaks down gives reward 0 and the reason.

    Raises:
        QumosError: it cannot be run at all.
    """
    start, hits = time.monotonic(), evaluator.hits
    try:
        outcome = _all_levels(evaluator, job) if isinstance(job, LevelsJob) else _one(evaluator, job)
    except EvaluationFailure as failure:
        outcome = Outcome(0.0, {}, one_line(failure))
    return Answer(outcome, time.monotonic() - start, evaluator.hits > hits)


def _one(evaluator: Evaluator, job: Job) -> Outcome:
    evaluation = evaluator.evaluate(job.design, seed=job.seed, rows=job.rows, limits=job.limits, draws=job.draws)
    return Outcome(float(evaluation.reward), evaluation.to_dict(), "")


def _all_levels(evaluator: Evaluator, job: LevelsJob) -> Outcome:
    for rows in ROWS:
        evaluator.workload.control(job.seed, rows)  # made once and not part of what a design takes
    found, reward = dict[str, Scalar](), 0.0
    with threadpool_limits(1):
        start = time.process_time()
        for rows, draws, evaluation in evaluator.evaluate_levels(job.design, seed=job.seed):
            found |= {level_name(rows, draws, name): value for name, value in evaluation.to_dict().items()}
            if rows == "search":
                reward, found[SECONDS] = float(evaluation.reward), time.process_time() - start
    return Outcome(reward, found, "")


def refusal(error: Exception) -> QumosError | RuntimeError:
    """``error`` as it travels to whoever asked: not every exception does."""
    return error if isinstance(error, QumosError) else RuntimeError(f"{type(error).__name__}: {one_line(error)}")
