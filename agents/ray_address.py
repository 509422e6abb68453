"""Whether a Ray cluster can be joined, told within seconds and in one line."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import queue
import socket
import subprocess
import sys
import threading
from pathlib import Path

from qumos_env.errors import QumosError, one_line

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 8.0
_LOAD_SECONDS = 120.0
"""For loading Ray, which on a busy machine takes long and says nothing about the cluster."""
_TOKEN_HINT = "give this process the cluster's token: RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"


def check_cluster(address: str) -> None:
    """Returns if the cluster at ``address`` (``host:port``, or ``auto`` for the one that runs on this machine) can be joined.

    Raises:
        QumosError: nobody answers there, or something else than Ray, the token is missing or wrong, or Ray or Python have other
            versions there; within 15 seconds, the loading of Ray aside.
    """
    if address != "auto":
        _connect(address)
    found = _asked(address)
    if "error" in found:
        if found["kind"] == "AuthenticationError":
            sent = "it wants a token, and none is sent" if _mode() != "token" else "the token is not the cluster's"
            raise QumosError(f"Ray cluster at {address}: {sent}; {_TOKEN_HINT}")
        raise QumosError(f"Ray cluster at {address}: no answer ({one_line(found['error'], 160)})")
    here = {"ray_version": importlib.metadata.version("ray"), "python_version": platform.python_version()}
    for key, name in (("ray_version", "Ray"), ("python_version", "Python")):
        there = found.get(key, "unknown")
        if there != here[key]:
            raise QumosError(f"Ray cluster at {address}: {name} {there} there, {here[key]} here; they must be the same")


def _connect(address: str) -> None:
    """Tries to reach ``address`` at all."""
    if "://" in address:
        hint = "give host:port of the cluster's head, and run this on one of its machines, or there by `ray job submit`"
        raise QumosError(f"Ray address {address!r}: of Ray Client or a dashboard, which cannot carry a search; {hint}")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise QumosError(f"Ray address {address!r}: not host:port, as in 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise QumosError(f"Ray cluster at {address}: nobody answers there ({reason}); is it running, and is this its address?") from error


def _asked(address: str) -> dict[str, str]:
    """What ``ray_probe`` finds out, in a process of its own."""
    if _mode() == "token" and not _has_token():
        raise QumosError(f"Ray cluster at {address}: RAY_AUTH_MODE is token and there is none; {_TOKEN_HINT}")
    command = [sys.executable, "-P", str(Path(__file__).with_name("ray_probe.py")), address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True)
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        if lines.get(timeout=_LOAD_SECONDS) != "asking\n":
            raise QumosError("Ray cannot be loaded; the extra is needed: pip install 'qumos-env[rllib]'")
        answer = lines.get(timeout=ANSWER_SECONDS)
        found: dict[str, str] = json.loads(answer) if answer else {"kind": "", "error": "Ray broke down while it asked"}
        return found
    except queue.Empty:
        return {"kind": "", "error": f"none within {ANSWER_SECONDS:g} s; what listens there is no Ray of this version"}
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()


def _read(stream: object, lines: queue.Queue[str]) -> None:
    for line in stream:  # type: ignore[attr-defined]
        lines.put(line)
    lines.put("")


def _mode() -> str:
    return os.environ.get("RAY_AUTH_MODE", "disabled").lower()


def _has_token() -> bool:
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or Path(path).is_file()
