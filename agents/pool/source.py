"""Which code this is: what a driver and its workers must have in common."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import qumos_env

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, which Ray ships to workers less what ``.rayignore`` names."""
_SUFFIXES = (".py", ".toml")


@dataclass(frozen=True)
class Source:
    """The code that decides what an evaluation gives.

    Attributes:
        version: of the package.
        digest: SHA-256 of the sources and device profiles of ``qumos_env`` and of the agents, by name and content.
        python: version of the interpreter.
    """

    version: str
    digest: str
    python: str

    def __str__(self) -> str:
        return f"qumos_env {self.version}, source {self.digest[:12]}, Python {self.python}"


@cache
def source() -> Source:
    """That of this process."""
    return Source(qumos_env.__version__, digest_of(Path(qumos_env.__file__).parent, Path(__file__).parents[1]), platform.python_version())


def digest_of(*folders: Path) -> str:
    """SHA-256 of the sources in ``folders``."""
    found = hashlib.sha256()
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file()):
            content = path.read_bytes()
            found.update(f"{folder.name}/{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
            found.update(content)
    return found.hexdigest()
