"""What a kind of file is to the harness, and what is no good file of any kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qumos_env.errors import QumosError

Reading = Callable[[], object]


@dataclass(frozen=True)
class Subject:
    """One kind of file.

    Attributes:
        name: what it is.
        case: makes a mutated file in a folder, from a generator, and returns the reading of it, which raises whatever that raises.
    """

    name: str
    case: Callable[[np.random.Generator, Path], Reading]


def no_file(folder: Path, suffix: str, generator: np.random.Generator) -> Path:
    """Something with the name of a file that is none, or none that can be read."""
    path = folder / f"other{suffix}"
    kind = generator.integers(7)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to("/dev/zero")
    elif kind == 3:
        path.symlink_to(path)
    elif kind == 4:
        path = folder / ("x" * 300 + suffix)
    elif kind == 5:
        path = folder / f"a\x00b{suffix}"
    else:
        path.write_bytes(b"")
        os.truncate(path, 2**40)  # takes no room
    return path


def spoil(path: Path, generator: np.random.Generator) -> None:
    """Puts what ``no_file`` makes in the place of the file ``path``, where it can have that name."""
    other = no_file(path.parent, path.suffix, generator)
    if os.path.lexists(other):
        path.unlink()
        other.rename(path)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def message_fault(error: QumosError) -> str | None:
    """What is wrong with the message of ``error``; one printable line is right."""
    message = str(error)
    if len(message) >= 500:
        return f"a message of {len(message)} characters"
    if not message or not message.isprintable():
        return f"a message that is no printable line: {message!r}"
    return None
