"""Servers of bundles as processes of their own, for tests: providers and a gateway on free ports, with whatever stands between them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import httpx

from qumos_env.deployment.serving.seal import HEADER, Seal
from qumos_env.deployment.serving.state import State
from qumos_env.deployment.tokens import read_token

PATIENCE = 60.0
"""Seconds until a server must be there, on a machine with other work."""
MAIN = "import sys; from qumos_env.cli import app, run; sys.exit(run(app))"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Server:
    """One process of the command, and its log."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Tells it to end, and waits."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def start(words: Sequence[object], log: Path, port: int, before: str = "") -> Server:
    """The command ``qumos *words``; returns when it listens on ``port``. ``before`` is Python that runs first."""
    with log.open("ab") as handle:
        process = subprocess.Popen([sys.executable, "-c", before + MAIN, *map(str, words)], stdout=handle, stderr=handle, env=os.environ)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with socket.socket() as sock:
            if process.poll() is not None:
                raise AssertionError(log.read_text(encoding="utf-8"))
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return Server(process, log, f"{'https' if '--tls-cert' in words else 'http'}://127.0.0.1:{port}")
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"not there after {PATIENCE} s: {log.read_text(encoding='utf-8')}")


@dataclass
class Deployment:
    """A bundle that is served."""

    bundle: Path
    folder: Path
    ports: dict[str, int]
    providers: dict[str, Server] = field(default_factory=dict)
    gateway: Server | None = None
    options: Sequence[object] = ()
    key: str = ""
    admin: str = ""

    @property
    def url(self) -> str:
        assert self.gateway is not None
        return self.gateway.url

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def start_provider(self, name: str, *options: object, before: str = "") -> Server:
        port = self.ports[name]
        words = ["provider", self.bundle / "providers" / name, "--port", port, *options]
        self.providers[name] = start(words, self.folder / f"{name}.log", port, before)
        return self.providers[name]

    def start_gateway(self, *options: object, urls: Mapping[str, str] | None = None) -> Server:
        places = {name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()} | dict(urls or {})
        port = free_port()
        # Long patience unless a test says otherwise: on a machine with other work a provider that is late is no fault.
        words = ["serve", self.bundle, "--port", port, "--state", self.state, "--patience", 30, *self.options, *options]
        for name, url in places.items():
            words += ["-p", f"{name}={url}"]
        self.gateway = start(words, self.folder / "gateway.log", port)
        return self.gateway

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        token = self.key if key is None else key
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {token}"}, timeout=60, trust_env=False, **options)

    def events(self) -> list[dict[str, Any]]:
        state = State(self.state)
        try:
            return state.events(1000)
        finally:
            state.close()


@contextmanager
def deployed(
    bundle: Path, folder: Path, *options: object, provider_options: Sequence[object] = (), gateway: bool = True
) -> Iterator[Deployment]:
    """The bundle, served by one process per provider and the gateway."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in (bundle / "providers").iterdir())
    found = Deployment(bundle, folder, {name: free_port() for name in names}, options=options)
    state = State(found.state)
    found.key, found.admin = state.add_key("customer"), state.add_key("owner", admin=True)
    state.close()
    try:
        for name in names:
            found.start_provider(name, *provider_options)
        if gateway:
            found.start_gateway()
        yield found
    finally:
        for server in [*found.providers.values(), *([found.gateway] if found.gateway else [])]:
            if server.process.poll() is None:
                server.kill()


def until(true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Waits until ``true``; an assertion fails where that never comes."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


Change = Callable[[dict[str, Any]], Any]


class Between:
    """Stands in the place of a provider: passes requests on and keeps all that goes by, or answers as ``change`` says.

    It holds the provider's token, so that what it changes is sealed: it is a provider that means harm.

    Attributes:
        change: of the data of an answer; returns the new data, or bytes that are sent as they are, or ``None`` for the data as it is now.
        delay: seconds before an answer.
        traffic: all bytes of requests and answers.
    """

    def __init__(self, url: str, token_file: Path, reseal: bool = True) -> None:
        self.change: Change | None = None
        self.delay = 0.0
        self.traffic: list[bytes] = []
        self.requests: list[bytes] = []
        outer, seal = self, Seal(read_token(token_file))

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.traffic.append(body)
                outer.traffic.append("\n".join(f"{name}: {value}" for name, value in self.headers.items()).encode())
                outer.requests.append(body)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
                try:
                    with urlopen(Request(url + self.path, body, headers, method=self.command), timeout=30) as response:
                        status, content, sealed = response.status, response.read(), response.headers.get(HEADER, "")
                except OSError as error:
                    status, content, sealed = getattr(error, "code", 502), getattr(error, "read", bytes)(), ""
                    sealed = getattr(error, "headers", {}).get(HEADER, "") if hasattr(error, "headers") else ""
                outer.traffic.append(content)
                if outer.change is not None and status == 200 and self.command == "POST":
                    data = json.loads(content)
                    changed = outer.change(data)
                    changed = data if changed is None else changed
                    content = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
                    if reseal:
                        sealed = seal.response(self.headers[HEADER].split(":")[1], status, content)
                time.sleep(outer.delay)
                try:
                    self.send_response(status)
                    self.send_header(HEADER, sealed)
                    self.send_header("content-length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True

            do_PUT = do_POST

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
