"""Ray nodes for tests, each a program of its own that is ended by its process group and never by name."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 300
SMALL = ["--object-store-memory=80000000", "--disable-usage-stats", "--block"]
HEAD = "127.0.0.2"
"""A loopback address: Ray replaces 127.0.0.1 by one that other machines see. Every node of a test has its own, as machines have."""
_hosts = itertools.count(3)


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.socket()) as one:
        one.bind((HEAD, 0))
        return int(one.getsockname()[1])


class Node:
    """A node started by `ray start`; ``address`` joins it to a cluster, without one it is the head of a new one."""

    def __init__(self, cpus: int, address: str | None = None, environment: Mapping[str, str] | None = None, *options: str) -> None:
        # Sockets lie in this folder, whose name must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="q", dir="/tmp"))
        self.address = address or f"{HEAD}:{free_port()}"
        self.host = HEAD if address is None else f"127.0.0.{next(_hosts)}"
        port = self.address.rpartition(":")[2]
        role = ["--head", f"--port={port}", f"--temp-dir={self.folder}"] if address is None else [f"--address={address}"]
        if not any(option.startswith("--include-dashboard") for option in options) and address is None:
            role.append("--include-dashboard=false")
        size = [f"--num-cpus={cpus}", f"--node-ip-address={self.host}"]
        command = [str(Path(sys.executable).with_name("ray")), "start", *size, *role, *SMALL, *options]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        clean |= {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)} | dict(environment or {})
        self._log = (self.folder / "start.log").open("w+")
        self.process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, env=clean, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in (text := (self.folder / "start.log").read_text()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"no Ray node: {text}")
            time.sleep(0.2)

    def parts(self) -> list[psutil.Process]:
        """Its processes."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def named(self, text: str) -> list[int]:
        """The ids of those whose command line has ``text``."""
        found = []
        for one in self.parts():
            try:
                if text in " ".join(one.cmdline()):
                    found.append(one.pid)
            except psutil.Error:
                continue  # it has just ended
        return found

    def kill(self) -> None:
        """Ends all of it at once, as a machine goes."""
        for one in [*self.parts()]:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self._log.close()


@contextmanager
def head(cpus: int = 1, environment: Mapping[str, str] | None = None, *options: str) -> Iterator[Node]:
    """The head of a cluster, ended with the block."""
    node = Node(cpus, None, environment, *options)
    try:
        yield node
    finally:
        node.kill()
