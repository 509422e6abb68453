"""A store of finished evaluations: in memory, or in an SQLite file shared by runs and processes."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from ..errors import QumosError

_WAIT_SECONDS = 60.0
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_COLUMNS = ["key", "value"]
MOST_IN_MEMORY = 20_000
"""Entries, of some kilobytes each: a hundred megabytes at most, however long a training lasts."""


class EvaluationCache:
    """Key to JSON text. A value is a pure function of its key, so writers never conflict.

    Args:
        path: the SQLite file (made if missing), or ``None`` to keep results in this object's memory only, the last ``MOST_IN_MEMORY``.
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
        if row is None:
            return None
        self._remember({key: row[0]})
        return str(row[0])

    def put(self, key: str, value: str) -> None:
        """Stores ``value``."""
        self.put_all({key: value})

    def put_all(self, values: Mapping[str, str]) -> None:
        """Stores ``values`` by key, all or none."""
        self._remember(values)
        if self.path is not None:
            with self._connected() as connection:
                connection.executemany("INSERT OR REPLACE INTO evaluations VALUES (?, ?)", list(values.items()))

    def _remember(self, values: Mapping[str, str]) -> None:
        self._memory.update(values)
        for key in list(itertools.islice(self._memory, max(0, len(self._memory) - MOST_IN_MEMORY))):
            del self._memory[key]


def set_aside_damaged(path: str | Path) -> Path | None:
    """Renames the file ``path`` if it is there and is no sound cache, so that a new one can be begun; returns where it is now.

    For those who own the file: nothing in it is lost that could not be measured again. A file that is merely locked stays.

    Raises:
        QumosError: it cannot be opened or renamed.
    """
    cache = Path(path).resolve()
    if not cache.exists() or _is_sound(cache):
        return None
    numbers = itertools.count(1)
    aside = next(name for name in (cache.with_name(f"{cache.name}.damaged-{number}") for number in numbers) if not name.exists())
    try:
        cache.rename(aside)
        # What SQLite would still want to do to the old file must not be done to a new one.
        for suffix in ("-journal", "-wal", "-shm"):
            leftover = cache.with_name(cache.name + suffix)
            if leftover.exists():
                leftover.rename(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise QumosError(f"cache {cache}: damaged, and cannot be set aside ({error.strerror})") from error
    return aside


def _is_sound(cache: Path) -> bool:
    try:
        with closing(sqlite3.connect(str(cache), timeout=_WAIT_SECONDS)) as connection:
            # Views and triggers run whatever their author wrote.
            kinds = connection.execute("SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'").fetchall()
            columns = [row[1] for row in connection.execute("PRAGMA table_info(evaluations)")]
            known = kinds in ([], [("table", "evaluations")]) and columns in ([], _COLUMNS)
            return known and connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:  # the low byte; the rest says more precisely what
            return False
        raise QumosError(f"cache {cache}: cannot be used ({error})") from error
