"""Structured logs: one JSON object a line on standard error. They hold no inputs, no answers and no secrets."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import orjson

from ...errors import one_line


class Log:
    """Writes events.

    Args:
        service: what speaks: ``gateway``, or ``provider`` and its name.
        stream: where to; default standard error.
        quiet: leave out what is no event but traffic.
    """

    def __init__(self, service: str, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._service, self._stream, self._quiet = service, stream, quiet

    def request(self, **fields: Any) -> None:
        """One request that was answered."""
        if not self._quiet:
            self.event("request", **fields)

    def event(self, event: str, **fields: Any) -> None:
        """Something that happened; ``fields`` are plain data."""
        line = orjson.dumps({"time": round(time.time(), 3), "service": self._service, "event": event, **fields}, default=str)
        stream = self._stream or sys.stderr
        stream.write(line.decode("utf-8", "replace") + "\n")
        stream.flush()


class LibraryLog(logging.Handler):
    """Writes down in the same form what the libraries below report: requests that are no HTTP, tasks that failed.

    Args:
        log: where to.
        malformed: called for each request that never reached the application, as it is no HTTP.
    """

    def __init__(self, log: Log, malformed: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._log, self._malformed = log, malformed

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        message = record.getMessage()
        fields = {} if record.exc_info is None else {"traceback": logging.Formatter().formatException(record.exc_info)}
        self._log.event("server", level=record.levelname.lower(), message=one_line(message), **fields)
        if message.startswith("Invalid HTTP request"):
            self._malformed()
