"""Reading files that a user names, within bounds; writing files and folders so that nobody ever sees half of one."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .errors import QumosError, one_line, shown

MOST_BYTES = 2**20
"""Of a file that holds settings or a design; those that people write have some thousand."""
_MOST_DOTS = 250  # in a line of TOML: the parser's time grows with the square of the steps of a key


@contextmanager
def open_file(path: str | Path, most: int = MOST_BYTES) -> Iterator[BinaryIO]:
    """The regular file ``path`` for reading; devices, pipes and folders are refused, which may have no end or block.

    Args:
        path: the file, or a link to it.
        most: how many bytes it may have.

    Raises:
        QumosError: there is no such file, it is of another kind, too large, or cannot be read.
    """
    try:
        # Not blocking: a pipe that nobody writes to would never open.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a zero byte, or what is no text, in the path
        raise _unreadable(path, error) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise QumosError(f"{path}: cannot be read (not a regular file)")
        if found.st_size > most:
            raise QumosError(f"{path}: cannot be read (it has {found.st_size:,} bytes, at most {most:,} are possible)")
        handle = os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    with handle:
        yield handle


def read_bytes(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """The content of the regular file ``path`` of at most ``most`` bytes; errors as of ``open_file``."""
    with open_file(path, most) as handle:
        try:
            # Files of the kernel state no size.
            content = handle.read(most + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
    if len(content) > most:
        raise QumosError(f"{path}: cannot be read (it has more than {most:,} bytes)")
    return content


def read_text(path: str | Path, most: int = MOST_BYTES) -> str:
    """The text of the UTF-8 file ``path`` of at most ``most`` bytes, with ``\\n`` behind its lines; errors as of ``open_file``."""
    content = read_bytes(path, most)
    try:
        return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise QumosError(f"{path}: cannot be read (not UTF-8: {error.reason} at byte {error.start})") from error


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file; raises QumosError where it cannot be read or is malformed."""
    text = read_text(path)
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > _MOST_DOTS:
            raise QumosError(f"{path}: line {number} has {line.count('.'):,} dots, at most {_MOST_DOTS} are possible")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise QumosError(f"{path}: malformed TOML: nested too deep") from error
    except ValueError as error:  # its own errors among them; Python's, of numbers of thousands of digits
        raise QumosError(f"{path}: malformed TOML: {one_line(error)}") from error


def file_status(path: str | Path) -> os.stat_result:
    """Size, time of change and kind of the file ``path``; raises QumosError where there is none."""
    try:
        return os.stat(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def absolute_path(name: str, folder: Path) -> Path:
    """The file that another one in ``folder`` calls ``name``: ``~`` is a home folder, links on the way are followed; it need not exist.

    A link at the end is kept: its own name says what kind of file it is.

    Raises:
        QumosError: no such home folder, or nothing that a file can be called.
    """
    try:
        path = folder / Path(name).expanduser()
        if "\0" in name:
            raise ValueError("embedded null byte")
        return path.parent.resolve() / path.name
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: an unknown home, or links in a circle
        raise QumosError(f"{shown(name)}: no path of a file ({_reason(error)})") from error


def _unreadable(path: str | Path, error: Exception) -> QumosError:
    return QumosError(f"{path}: cannot be read ({_reason(error)})")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or one_line(error) or type(error).__name__


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` to ``path`` in one step; a reader sees the old content or the new."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes ``data`` to ``path`` in one step; a reader sees the old content or the new.

    As if it were written in place, a link stays a link to the file that is written, and a file that there was keeps its mode.
    """
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
        os.chmod(name, mode)
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
