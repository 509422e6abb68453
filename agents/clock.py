"""How long a search has taken, where evaluations are made and where they are looked up."""

from __future__ import annotations

import time
from collections.abc import Mapping

SECONDS = "seconds"
"""What an evaluation that is looked up took when it was made, among its figures."""


class Clock:
    """Seconds since a search began.

    The agent's own time is real. What evaluations took that were looked up in a table comes on top, divided by the number of
    processes that would have shared them: the time that the search would have taken, without any waiting for it.

    Args:
        workers: processes; 0 counts as one.
    """

    def __init__(self, workers: int) -> None:
        self._workers = max(1, workers)
        self._start = time.monotonic()

    def passed(self, evaluation: Mapping[str, object], share: float) -> float:
        """The seconds after ``evaluation``, of which ``share`` was new work: 0 to 1."""
        looked_up = evaluation.get(SECONDS)
        if isinstance(looked_up, float):
            self._start -= share * looked_up / self._workers
        return time.monotonic() - self._start

    def go_on_from(self, seconds: float) -> None:
        """The clock of an earlier session showed ``seconds``."""
        self._start = time.monotonic() - seconds
