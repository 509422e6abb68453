"""Writing files and folders so that nobody ever sees half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import QumosError, one_line


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; raises QumosError where it cannot be read or is malformed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise QumosError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise QumosError(f"{path}: malformed TOML: {one_line(error)}") from error


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` to ``path`` in one step; a reader sees the old content or the new."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes ``data`` to ``path`` in one step; a reader sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: str | Path, *, marker: str, force: bool = False) -> Iterator[Path]:
    """A folder that appears at ``path``, complete, when the block ends without an error, and not at all otherwise.

    Args:
        path: where; must not exist, or be empty.
        marker: name of a file that tells folders of this kind; with ``force`` such a folder is replaced.
        force: replace an earlier folder of the same kind. A folder with other content is never touched.

    Raises:
        QumosError: ``path`` exists with other content, or cannot be written.
    """
    target = Path(path)
    check_target(target, marker=marker, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    except OSError as error:
        raise QumosError(f"{target}: cannot be written ({error.strerror})") from error
    try:
        yield staging
        os.chmod(staging, 0o777 & ~_umask())
        if target.exists():
            shutil.rmtree(target)
        os.replace(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def check_target(target: Path, *, marker: str, force: bool) -> None:
    """Raises QumosError unless ``target`` is free, empty, or (with ``force``) a folder that holds ``marker``."""
    if not target.exists():
        return
    if not target.is_dir():
        raise QumosError(f"{target}: exists and is not a folder")
    if not any(target.iterdir()):
        return
    if not (target / marker).is_file():
        raise QumosError(f"{target}: exists with other content (no {marker}); choose another folder")
    if not force:
        raise QumosError(f"{target}: exists already; use --force to replace it")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
