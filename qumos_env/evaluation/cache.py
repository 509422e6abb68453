"""A store of finished evaluations: in memory, or in an SQLite file shared by runs and processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..errors import QumosError

_WAIT_SECONDS = 60.0


class EvaluationCache:
    """Key to JSON text. A value is a pure function of its key, so writers never conflict.

    Args:
        path: the SQLite file (made if missing), or ``None`` to keep results in this object's memory only.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path).resolve()
        self._memory: dict[str, str] = {}
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise QumosError(f"cache {path}: cannot be used ({error})") from error
            with self._connected() as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS evaluations (key TEXT PRIMARY KEY, value TEXT NOT NULL)")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        # A connection per use: the object stays picklable and safe across forks.
        try:
            with closing(sqlite3.connect(str(self.path), timeout=_WAIT_SECONDS)) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            raise QumosError(f"cache {self.path}: cannot be used ({error})") from error

    def get(self, key: str) -> str | None:
        """The value of ``key``, or ``None``."""
        if key in self._memory or self.path is None:
            return self._memory.get(key)
        with self._connected() as connection:
            row = connection.execute("SELECT value FROM evaluations WHERE key = ?", (key,)).fetchone()
        if row is not None:
            self._memory[key] = row[0]
        return self._memory.get(key)

    def put(self, key: str, value: str) -> None:
        """Stores ``value``."""
        self._memory[key] = value
        if self.path is not None:
            with self._connected() as connection:
                connection.execute("INSERT OR REPLACE INTO evaluations VALUES (?, ?)", (key, value))
