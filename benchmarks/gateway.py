"""What a deployment adds to a prediction, and the load that it carries: gateway and two providers as processes of their own.

    python -m benchmarks.gateway [--seconds 60] [--rate 200] [--rows 8] [--repeats 3] [--faults] [--replace] [--out FILE.json]

*Overhead*: single predictions one after the other, through the API and in this process, in turns. *Load* is open loop: requests are sent
when they are due, whether or not earlier ones were answered, and a request's time runs from when it was due (so that a server which
stalls is not spared: "coordinated omission"). ``--faults`` kills a provider in mid-run and starts it again, ``--replace`` deploys
two new versions meanwhile. Every answer is held against the model's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from qumos_env.deployment.bundle import Bundle, read_bundle
from qumos_env.deployment.export import earlier_release, export_bundle, write_bundle
from qumos_env.deployment.serving.served import read_served
from qumos_env.deployment.serving.state import State
from qumos_env.design.ansatz import interleaved, ry_cz_ry
from qumos_env.evaluation.workload import Workload
from qumos_env.scenario import load_scenario

SCENARIO = "hyperplanes-few"
_COMMAND = [sys.executable, "-c", "import sys; from qumos_env.cli import app, run; sys.exit(run(app))"]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Served:
    """A bundle with its processes."""

    folder: Path
    home: Path
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)
    url: str = ""

    def start(self, name: str, words: list[str], port: int) -> None:
        """Starts a process and waits until it listens; remembers how long that took."""
        began = time.perf_counter()
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen([*_COMMAND, *words, "--port", str(port), "--quiet"], stdout=log, stderr=log)
        while True:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if self.processes[name].poll() is not None or time.perf_counter() - began > 120:
                raise RuntimeError((self.home / f"{name}.log").read_text(encoding="utf-8"))
            time.sleep(0.005)
        self.starts[name] = time.perf_counter() - began

    def provider(self, name: str) -> None:
        """Starts the provider called ``name``."""
        self.start(name, ["provider", str(self.folder / "providers" / name)], self.ports[name])

    def stop(self) -> None:
        """Ends all processes."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait()

    def processor_seconds(self) -> dict[str, float]:
        """Of every process so far."""
        found = {}
        for name, process in self.processes.items():
            fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            found[name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return found


def overhead(url: str, key: str, folder: Path, rows: np.ndarray, count: int) -> dict[str, float]:
    """Milliseconds of single predictions through the API and in this process, in turns, and the median of what is added."""
    served = read_served(folder)

    def local(row: np.ndarray) -> np.ndarray:
        inputs = served.owner.preprocessor.transform(row[None])
        return served.probabilities({seat.index: served.simulated(seat.index, inputs) for seat in served.owner.parts})

    through, inside = [], []
    place = urlsplit(url)
    with closing(HTTPConnection(place.hostname or "", place.port)) as client:
        for number in range(count + 50):
            row = rows[number % len(rows)]
            body = json.dumps({"row": row.tolist()}).encode()
            began = time.perf_counter()
            client.request("POST", "/v1/predict", body, {"authorization": f"Bearer {key}"})
            answer = client.getresponse().read()
            middle = time.perf_counter()
            expected = local(row)
            end = time.perf_counter()
            assert np.allclose(list(json.loads(answer)["probabilities"].values()), expected[0], atol=1e-5), "a wrong answer"
            if number >= 50:
                through.append(1000 * (middle - began))
                inside.append(1000 * (end - middle))
    added = float(np.median(through) - np.median(inside))
    quantiles = {f"p{share:g}": float(np.quantile(through, share / 100)) for share in (10, 50, 90)}
    return {"inside_median": float(np.median(inside)), "added_median": added, "least": min(through), **quantiles}


class Connections:
    """HTTP/1.1 over connections that are kept, with as little of a processor as can be: both sides of a benchmark share the machine.

    Args:
        host, port: of the gateway.
        head: of every request, up to the length of its body.
    """

    def __init__(self, host: str, port: int, head: bytes) -> None:
        self._host, self._port, self._head = host, port, head
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; raises OSError or EOFError where there is none."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
        writer.write(self._head + f"content-length: {len(body)}\r\n\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        content = await reader.readexactly(length)
        if b"connection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head.split(b" ", 2)[1]), content


async def load(
    url: str,
    key: str,
    expected: dict[int, np.ndarray],
    rows: np.ndarray,
    rate: float,
    seconds: float,
    size: int,
    events: list[tuple[float, Any]],
) -> dict[str, Any]:
    """Open-loop load; ``events`` are (second, coroutine function) that happen meanwhile."""
    generator = np.random.default_rng(0)
    due = np.cumsum(generator.exponential(1 / rate, int(rate * seconds)))
    starts = generator.integers(0, len(rows) - size, len(due))
    bodies = {int(start): json.dumps({"rows": rows[start : start + size].tolist()}).encode() for start in set(starts.tolist())}
    place = urlsplit(url)
    head = f"POST /v1/predict HTTP/1.1\r\nhost: {place.netloc}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    connections = Connections(place.hostname or "", place.port or 80, head.encode())
    statuses: Counter[str] = Counter()
    times: list[tuple[float, float, int]] = []
    answers: list[tuple[int, bytes]] = []

    async def one(at: float, start: int) -> None:
        try:
            status, content = await connections.post(bodies[start])
        except (OSError, EOFError) as error:
            status, content = 0, type(error).__name__.encode()
        times.append((at, time.perf_counter() - began - at, status))
        statuses[str(status or content.decode())] += 1
        if status == 200:
            answers.append((start, content))

    tasks = []
    began = time.perf_counter()
    happening = [asyncio.create_task(_later(second, event)) for second, event in events]
    for at, start in zip(due, starts, strict=True):
        wait = began + at - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(float(at), int(start))))
    await asyncio.gather(*tasks, *happening)
    took = time.perf_counter() - began
    wrong = 0
    for start, content in answers:  # afterwards: the check of an answer must not slow the next request
        data = json.loads(content)
        wrong += not np.allclose(data["probabilities"], expected[data["version"]][start : start + size], atol=1e-5)
    good = np.array([seconds for _, seconds, status in times if status == 200]) * 1000
    late = [at for at, _, status in times if status != 200]
    return {
        "requests": len(times),
        "seconds": took,
        "statuses": dict(statuses),
        "wrong": wrong,
        "p50_ms": float(np.quantile(good, 0.5)),
        "p99_ms": float(np.quantile(good, 0.99)),
        "max_ms": float(good.max()),
        "slowest_refusal_ms": max((1000 * one for _, one, status in times if status != 200), default=0.0),
        "refused_from_to_s": [min(late), max(late)] if late else None,
    }


async def _later(second: float, event: Any) -> None:
    await asyncio.sleep(second)
    await event()


def main(arguments: list[str] | None = None) -> int:
    """Runs what is asked for, and prints it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description="Overhead and load of a deployment.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--rows", type=int, default=8, help="rows of a request")
    parser.add_argument("--repeats", type=int, default=3, help="of the overhead")
    parser.add_argument("--faults", action="store_true", help="kill a provider in mid-run and start it again")
    parser.add_argument("--replace", action="store_true", help="deploy two versions in mid-run")
    parser.add_argument("--no-load", action="store_true", help="overhead alone")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args(arguments)
    scenario = load_scenario(SCENARIO)
    design = ry_cz_ry(interleaved(scenario.design.qubits, 2), scenario.provider_names[:2], 2)
    workload = Workload(scenario)
    rows = workload.protocol.dataset.features
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["XDG_CONFIG_HOME"] = str(home / "config")  # a key of its own
        bundle = export_bundle(design, scenario, home / "bundle", workload=workload)
        versions = {1: read_bundle(bundle)}
        later = []
        for number in (2, 3) if chosen.replace else ():
            later.append(_next_version(versions[number - 1], later[-1] if later else bundle, home / f"v{number}", workload))
            versions[number] = read_bundle(later[-1])
        expected = {number: one.predict_proba(rows) for number, one in versions.items()}
        state = State(home / "state")
        key, admin = state.add_key("load"), state.add_key("owner", admin=True)
        state.close()
        served = Served(bundle, home, {name: _free_port() for name in scenario.provider_names[:2]})
        try:
            for name in served.ports:
                served.provider(name)
            port = _free_port()
            words = ["serve", str(bundle), "--state", str(home / "state")]
            for name, one in served.ports.items():
                words += ["-p", f"{name}=http://127.0.0.1:{one}"]
            served.start("gateway", words, port)
            served.url = f"http://127.0.0.1:{port}"
            found: dict[str, Any] = {
                "start_s": dict(served.starts),
                "start_processor_s": served.processor_seconds(),
                "load_average": os.getloadavg(),
                "cores": os.cpu_count(),
            }
            found["overhead_ms"] = [overhead(served.url, key, bundle, rows, 500) for _ in range(chosen.repeats)]
            if not chosen.no_load:
                before = served.processor_seconds()
                events = _events(served, chosen, admin, later)
                found["load"] = asyncio.run(load(served.url, key, expected, rows, chosen.rate, chosen.seconds, chosen.rows, events))
                after = served.processor_seconds()
                found["processor_share"] = {name: (after[name] - before.get(name, 0)) / found["load"]["seconds"] for name in after}
            found["load_average_after"] = os.getloadavg()
        finally:
            served.stop()
    text = json.dumps(found, indent=2)
    print(text)
    if chosen.out is not None:
        chosen.out.write_text(text + "\n", encoding="utf-8")
    return 1 if found.get("load", {}).get("wrong") else 0


def _events(served: Served, chosen: argparse.Namespace, admin: str, later: list[Path]) -> list[tuple[float, Any]]:
    """What happens in mid-run."""
    found: list[tuple[float, Any]] = []
    if chosen.faults:
        name = next(iter(served.ports))

        async def kill() -> None:
            served.processes[name].kill()
            served.processes[name].wait()

        async def restart() -> None:
            await asyncio.to_thread(served.provider, name)

        found += [(chosen.seconds / 3, kill), (chosen.seconds / 3 + 5, restart)]
    for number, path in enumerate(later):

        async def deploy(path: Path = path) -> None:
            words = [*_COMMAND, "deploy", str(path), "--url", served.url]
            await asyncio.to_thread(subprocess.run, words, check=True, env=os.environ | {"QUMOS_KEY": admin}, stdout=subprocess.DEVNULL)

        found.append((chosen.seconds * (0.15, 0.8)[number], deploy))  # before a provider is killed, and after
    return found


def _next_version(bundle: Bundle, folder: Path, out: Path, workload: Workload) -> Path:
    parameters = bundle.parameters(bundle.axis)
    moved = replaced(parameters, angles=parameters.angles + 0.3)
    return write_bundle(out, bundle.design, workload, moved, bundle.preprocessor, {}, release=earlier_release(folder))


if __name__ == "__main__":
    sys.exit(main())
