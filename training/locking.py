"""One driver at a time: an advisory lock of the operating system on a file in the folder that a driver works on."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qumos_env.errors import QumosError, one_line

LOCK = ".qumos.lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds ``folder`` for the time of the block.

    The system lets go of the lock when this process ends, however it ends. The descriptor closes in every program that is started
    meanwhile, so worker processes that outlive this one hold nothing.

    Raises:
        QumosError: another driver holds it, or the folder cannot be written.
    """
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise QumosError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # For the message below only.
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except BlockingIOError as error:
            holder = one_line(os.read(descriptor, 100).decode(errors="replace")) or "which has just begun"
            raise QumosError(f"{folder}: another process works on it ({holder}); wait for it or end it") from error
        except OSError as error:
            raise QumosError(f"{path}: cannot be locked ({error.strerror})") from error
        yield
    finally:
        os.close(descriptor)
