"""When a search has to stop: a time limit, Ctrl-C or a request of the system to end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType


class StopRequest:
    """Says when to stop. As a context manager it turns the first Ctrl-C (or SIGTERM) into a request; the second interrupts.

    Args:
        time_limit: seconds from entering the block, or ``None``.
        on_request: called once when a signal arrives.
    """

    def __init__(self, time_limit: float | None, on_request: Callable[[], None] = lambda: None) -> None:
        self._time_limit = time_limit
        self._on_request = on_request
        self._deadline = float("inf")
        self._handlers: dict[int, object] = {}
        self.requested = False

    def __enter__(self) -> StopRequest:
        if self._time_limit is not None:
            self._deadline = time.monotonic() + self._time_limit
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.requested or time.monotonic() >= self._deadline

    @property
    def seconds_left(self) -> float:
        """Until the time limit; infinite without one."""
        return self._deadline - time.monotonic()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._on_request()
