"""Reading files that a user names, within bounds; writing files and folders so that nobody ever sees half of one."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import tomllib
from collections.abc import Callable, Collection, Iterator
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


def parse_json(text: str | bytes, where: str) -> Any:
    """The JSON in ``text``; raises QumosError that names ``where`` for anything else."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise QumosError(f"{where}: not JSON (nested too deep)") from error
    except ValueError as error:  # JSON's own errors among them; of bytes that are no text, and Python's of thousands of digits
        raise QumosError(f"{where}: not JSON ({error})") from error


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


def write_text(path: Path, text: str, mode: int = 0o666) -> None:
    """Writes ``text`` to ``path`` in one step, as ``write_bytes``."""
    write_bytes(path, text.encode(), mode)


def write_bytes(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Writes ``data`` to ``path`` in one step; a reader sees the old content or the new.

    What a link names is replaced, not the link. A file that was there keeps its permissions, a new one has those of ``mode`` that the
    process's umask leaves.
    """
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    name = _beside(path)
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
        if kept is not None:
            os.chmod(name, kept)
        os.replace(name, path)
    except BaseException as error:
        name.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            # Of a full disk the system does not say which file it was, and the one beside is no name that anybody knows.
            error.filename, error.filename2 = str(path), None
        raise


Ours = Callable[[Path], Collection[str] | None]
"""A folder to the relative names of the files in it that we wrote, or ``None`` where the folder is not of our kind."""


@contextmanager
def new_folder(path: str | Path, *, ours: Ours, force: bool = False) -> Iterator[Path]:
    """A folder that appears at ``path``, complete, when the block ends without an error, and not at all otherwise.

    Args:
        path: where, or a link to there; must not exist, or be empty.
        ours: tells earlier folders of the same kind.
        force: replace the files of an earlier folder of the same kind; whatever else lies in it stays. A folder of another kind is
            never touched.

    Raises:
        QumosError: ``path`` exists with other content, or cannot be written.
    """
    check_new_folder(path, ours=ours, force=force)
    target = Path(path).resolve()
    staging = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
    except OSError as error:
        raise QumosError(f"{target}: cannot be written ({error.strerror})") from error
    try:
        yield staging
        if target.exists():
            _keep_others(target, staging, ours(target) or ())
            old = _beside(target)
            os.replace(target, old)
            try:
                os.replace(staging, target)
            except BaseException:
                os.replace(old, target)
                raise
            shutil.rmtree(old)
        else:
            os.replace(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def check_new_folder(path: str | Path, *, ours: Ours, force: bool) -> None:
    """Raises QumosError where ``new_folder`` would, before the work that fills the folder."""
    check_target(Path(path), ours=ours, force=force)
    if Path(path).resolve() in (here := Path.cwd(), *here.parents):
        raise QumosError(f"{path}: is or holds the folder that you are in, and would be replaced; choose another one")


def check_target(target: Path, *, ours: Ours, force: bool) -> None:
    """Raises QumosError unless ``target`` is free, empty, or (with ``force``) a folder that is ``ours``."""
    if not target.exists():
        return
    if not target.is_dir():
        raise QumosError(f"{target}: exists and is not a folder")
    if not any(target.iterdir()):
        return
    if ours(target) is None:
        raise QumosError(f"{target}: exists with other content; choose another folder")
    if not force:
        raise QumosError(f"{target}: exists already; use --force to replace it")


def _keep_others(source: Path, target: Path, written: Collection[str]) -> None:
    """Copies to ``target`` what lies in ``source`` and is not among ``written``; names in ``target`` win."""
    fresh = set(target.rglob("*"))
    folders = [source]
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            folders.append(path)
            if not any(path.iterdir()):
                (target / name).mkdir(parents=True, exist_ok=True)
        elif str(name) not in written and not (target / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target / name, follow_symlinks=False)
    # Last, and inner ones first: they may forbid writing.
    for path in reversed(folders):
        copied = target / path.relative_to(source)
        if copied.is_dir() and copied not in fresh:
            shutil.copymode(path, copied)


def _beside(path: Path) -> Path:
    """A name that nobody uses, hidden, in the same folder."""
    return path.with_name(f".{path.name[:40]}-{secrets.token_hex(8)}")
