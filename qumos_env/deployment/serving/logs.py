"""Structured logs: one JSON object a line on standard error. They hold no inputs, no answers and no secrets."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

import orjson


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
