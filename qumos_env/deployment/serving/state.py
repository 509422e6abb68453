"""What survives a restart, in SQLite and a folder beside it: keys, what they used, events, and the versions of models."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import QumosError, shown

_DATABASE = "gateway.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, admin INTEGER NOT NULL, quota INTEGER, rate REAL,
    created REAL NOT NULL, revoked REAL
);
CREATE TABLE IF NOT EXISTS usage (id TEXT NOT NULL, day TEXT NOT NULL, rows INTEGER NOT NULL, PRIMARY KEY (id, day));
CREATE TABLE IF NOT EXISTS events (time REAL NOT NULL, event TEXT NOT NULL, fields TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS versions (
    model TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL, public_key TEXT NOT NULL, deployed REAL NOT NULL,
    active INTEGER NOT NULL, PRIMARY KEY (model, version)
);
"""
_MOST_EVENTS = 100_000
_NOBODY = "0" * 64


def default_state() -> Path:
    """The folder of the gateway's state unless told otherwise."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "qumos" / "gateway"


@dataclass(frozen=True)
class Key:
    """A customer's key; its secret is known to the customer alone.

    Attributes:
        id: its public half.
        name: of the customer.
        digest: SHA-256 of the secret, which has 256 random bits, so that no slow hash is needed.
        admin: whether it may deploy.
        quota: rows a day (UTC), or ``None`` for any number.
        rate: requests a second on average, or ``None``.
        created, revoked: seconds since 1970.
    """

    id: str
    name: str
    digest: str
    admin: bool
    quota: int | None
    rate: float | None
    created: float
    revoked: float | None


@dataclass(frozen=True)
class VersionRow:
    """A version that was deployed."""

    model: str
    version: int
    digest: str
    public_key: str
    deployed: float
    active: bool


class State:
    """The state of a gateway.

    Args:
        folder: where; made when it is missing, for its owner alone.

    Raises:
        QumosError: it cannot be written, or is no state.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = sqlite3.connect(folder / _DATABASE, check_same_thread=False, timeout=10)
            os.chmod(folder / _DATABASE, 0o600)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise QumosError(f"{folder}: no state of a gateway can be kept there ({error})") from error
        self._lock = threading.Lock()

    def close(self) -> None:
        """Ends the connection."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection:
            yield self._connection

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    # Keys

    def add_key(self, name: str, *, admin: bool = False, quota: int | None = None, rate: float | None = None) -> str:
        """Makes a key for ``name``; the text that it returns is shown once and kept nowhere.

        Raises:
            QumosError: a name, quota or rate that is none.
        """
        if not name.strip() or len(name) > 100 or not name.isprintable():
            raise QumosError(f"name of the key: 1 to 100 printable characters needed, got {shown(name)}")
        if (quota is not None and quota < 0) or (rate is not None and not 0 < rate < 1e6):
            raise QumosError("quota and rate: a number of rows, and requests a second above 0")
        identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        with self._writing() as connection:
            values = (identity, name, _digest(secret), admin, quota, rate, time.time())
            connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", values)
        self.event("key-added", id=identity, name=name, admin=admin)
        return f"qk_{identity}_{secret}"

    def revoke_key(self, identity: str) -> None:
        """Ends a key, by its id or the name of who has it; raises QumosError where there is none that is alive."""
        with self._writing() as connection:
            where = "(id = ? OR name = ?) AND revoked IS NULL"
            count = connection.execute(f"UPDATE keys SET revoked = ? WHERE {where}", (time.time(), identity, identity)).rowcount
        if not count:
            raise QumosError(f"no key {shown(identity)} that is in use; see `qumos keys list`")
        self.event("key-revoked", id=identity)

    def keys(self) -> dict[str, Key]:
        """All keys by id, revoked ones among them."""
        columns = "id, name, digest, admin, quota, rate, created, revoked"
        rows = self._rows(f"SELECT {columns} FROM keys ORDER BY created")
        return {row[0]: Key(row[0], row[1], row[2], bool(row[3]), row[4], row[5], row[6], row[7]) for row in rows}

    def usage(self, day: str) -> dict[str, int]:
        """Rows that each key has had classified on ``day``."""
        return dict(self._rows("SELECT id, rows FROM usage WHERE day = ?", (day,)))

    def add_usage(self, day: str, rows: Mapping[str, int]) -> None:
        """Adds to what keys used on ``day``."""
        with self._writing() as connection:
            connection.executemany(
                "INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT (id, day) DO UPDATE SET rows = rows + excluded.rows",
                [(identity, day, count) for identity, count in rows.items()],
            )

    # Events

    def event(self, event: str, **fields: Any) -> None:
        """Writes an entry of the audit log; the oldest ones end when there are very many."""
        with self._writing() as connection:
            cursor = connection.execute("INSERT INTO events VALUES (?, ?, ?)", (time.time(), event, json.dumps(fields, default=str)))
            if (cursor.lastrowid or 0) % 1000 == 0:
                connection.execute("DELETE FROM events WHERE rowid <= ?", ((cursor.lastrowid or 0) - _MOST_EVENTS,))

    def events(self, most: int = 100) -> list[dict[str, Any]]:
        """The latest entries of the audit log, newest first."""
        rows = self._rows("SELECT time, event, fields FROM events ORDER BY rowid DESC LIMIT ?", (most,))
        return [{"time": moment, "event": event, **json.loads(fields)} for moment, event, fields in rows]

    # Versions

    def versions(self, model: str | None = None) -> list[VersionRow]:
        """What was deployed, oldest version first."""
        columns = "model, version, digest, public_key, deployed, active"
        rows = self._rows(f"SELECT {columns} FROM versions WHERE ? IS NULL OR model = ? ORDER BY model, version", (model, model))
        return [VersionRow(row[0], row[1], row[2], row[3], row[4], bool(row[5])) for row in rows]

    def bundle_path(self, model: str, version: int) -> Path:
        """Where the bundle of a version is kept."""
        return self.folder / "models" / model / str(version)

    def keep(self, contents: Mapping[str, bytes], model: str, version: int, digest: str, public_key: str) -> None:
        """Keeps the bundle of a version, and makes it the active one."""
        target = self.bundle_path(model, version)
        staging = target.with_name(f".{version}-{secrets.token_hex(4)}")
        try:
            for name, content in contents.items():
                path = staging / name
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
                    handle.write(content)
            if target.exists():
                shutil.rmtree(target)
            os.replace(staging, target)
        except OSError:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        with self._writing() as connection:
            connection.execute("UPDATE versions SET active = 0 WHERE model = ?", (model,))
            values = (model, version, digest, public_key, time.time())
            connection.execute("INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?, ?, 1)", values)

    def activate(self, model: str, version: int) -> None:
        """Makes a version that is kept the active one."""
        with self._writing() as connection:
            connection.execute("UPDATE versions SET active = (version = ?) WHERE model = ?", (version, model))


def match_key(keys: Mapping[str, Key], text: str) -> Key | None:
    """The key that ``text`` is, revoked or not, or ``None``; it takes as long for those that do not exist."""
    prefix, _, rest = text.partition("_")
    identity, _, secret = rest.partition("_")
    key = keys.get(identity) if prefix == "qk" else None
    good = hmac.compare_digest(_digest(secret), _NOBODY if key is None else key.digest)
    return key if good else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
