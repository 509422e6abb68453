"""What the terminal shows: progress on standard error, tables on standard output.

On a terminal there is a live bar. Elsewhere (a log file, a pipe) there is a line per stage and one every ten seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

LINE_EVERY_SECONDS = 10.0


class Display:
    """Progress of long work; ``quiet`` shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        # A descriptor of its own: the agents silence descriptor 2 while Ray starts.
        self.console = Console(file=os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace"), quiet=quiet, highlight=False)
        self.out = Console(highlight=False)

    def note(self, text: str) -> None:
        """One line."""
        self.console.print(text, soft_wrap=True, markup=False)

    @contextmanager
    def work(self, title: str, total: int | None = None) -> Iterator[Work]:
        """A stretch of work of ``total`` steps; the bar disappears with the block."""
        text = TextColumn("{task.description}", markup=False)
        info = TextColumn("{task.fields[info]}", markup=False)
        columns = (SpinnerColumn(), text, BarColumn(bar_width=24), MofNCompleteColumn(), info, TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            yield Work(self, progress, title, total)


class Work:
    """The bar of one stretch of work."""

    def __init__(self, display: Display, progress: Progress, title: str, total: int | None) -> None:
        self._display = display
        self._progress = progress
        self._total = total
        self._live = display.console.is_terminal
        self._title = ""
        self._task = progress.add_task(title, total=total, info="")
        self._last_line = time.monotonic()
        self.stage(title)

    def stage(self, title: str) -> None:
        """Something else begins within the same work."""
        self._progress.update(self._task, description=title)
        if not self._live and title != self._title:
            self._display.note(f"{title} ...")
        self._title = title

    def at(self, done: int, info: str = "") -> None:
        """``done`` steps are finished; ``info`` is shown behind the bar."""
        self._progress.update(self._task, completed=done, info=info)
        if not self._live and time.monotonic() - self._last_line > LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            total = "" if self._total is None else f"/{self._total}"
            self._display.note(f"{self._title}: {done}{total}  {info}")


def duration(seconds: float) -> str:
    """``seconds`` as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
