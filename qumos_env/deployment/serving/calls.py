"""Calls of one provider: sealed, over a shared pool of connections, with retries, and a circuit breaker in front."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import httpx
import numpy as np
import orjson

from ..owner import Seat
from .asgi import REQUEST_ID
from .logs import Log
from .metrics import Metrics
from .provider import RUN, VERSIONS
from .seal import HEADER, Seal

_VALUE_LIMIT = 1 + 1e-5
State = Literal["closed", "open", "distrusted"]
_R = TypeVar("_R")


@dataclass(frozen=True)
class Patience:
    """How long, and how often, a provider is asked.

    Attributes:
        total: seconds in which an answer must have come, retries included.
        attempt: seconds of one call.
        attempts: calls at most.
        pause: seconds before the second call, about; each further pause is twice as long.
        failures: calls in a row that fail, until the provider is left alone.
        rest: seconds until it is asked again, at first; twice as long each time, up to ``longest_rest``.
        longest_rest: see ``rest``.
    """

    total: float = 2.0
    attempt: float = 1.0
    attempts: int = 3
    pause: float = 0.03
    failures: int = 4
    rest: float = 0.5
    longest_rest: float = 5.0


class Unavailable(Exception):
    """A provider that gives no usable answer.

    Attributes:
        provider: its name.
        reason: a word: ``unreachable``, ``late``, ``garbage``, ``refused``, ``resting`` or ``distrusted``.
    """

    def __init__(self, provider: str, reason: str) -> None:
        super().__init__(f"provider {provider}: {reason}")
        self.provider, self.reason = provider, reason


class _Failed(Exception):
    def __init__(self, reason: str, again: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.again = reason, again


class UnknownVersion(Exception):
    """The provider answers, and does not hold the version."""


class Breaker:
    """Leaves a provider alone after failures in a row, and asks again after a rest; a provider that was caught stays out.

    Attributes:
        reason: of the last failure.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failures, self._rest, self._until = 0, patience.rest, 0.0
        self.reason = ""
        self.distrusted = False

    @property
    def state(self) -> State:
        """``closed``: calls go through."""
        if self.distrusted:
            return "distrusted"
        return "open" if self._failures >= self._patience.failures else "closed"

    @property
    def due(self) -> bool:
        """Whether it is time to try an open one."""
        return self.state == "open" and time.monotonic() >= self._until

    def succeeded(self) -> None:
        """A call went through."""
        self._failures, self._rest, self.reason = 0, self._patience.rest, ""

    def failed(self, reason: str) -> None:
        """A call did not."""
        self._failures += 1
        self.reason = reason
        if self._failures > self._patience.failures:
            self._rest = min(2 * self._rest, self._patience.longest_rest)
        self._until = time.monotonic() + self._rest

    def trust(self) -> None:
        """Ends the distrust."""
        self.distrusted = False
        self.succeeded()


class ProviderClient:
    """One provider as the gateway sees it.

    Args:
        name: of the provider.
        url: where it is, without a path.
        token: that both hold.
        transport: the pool of connections; httpx's, without what a client adds for browsing (redirects, cookies, proxies).
        patience: how long and how often it is asked.
        metrics, log: where what happens is written down.
    """

    def __init__(
        self,
        name: str,
        url: str,
        token: str,
        transport: httpx.AsyncBaseTransport,
        patience: Patience,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self.name = name
        self.breaker = Breaker(patience)
        self._run, self._versions = httpx.URL(url.rstrip("/") + RUN), httpx.URL(url.rstrip("/") + VERSIONS)
        self._seal, self._transport, self._patience, self._metrics, self._log = Seal(token), transport, patience, metrics, log
        self._base = {"content-type": "application/json"}
        metrics.provider_up.labels(name).set(1)

    async def run(
        self,
        model: str,
        version: int,
        seats: Sequence[Seat],
        inputs: np.ndarray,
        shots: int | None,
        request: str,
        variants: Mapping[int, int],
    ) -> dict[int, np.ndarray]:
        """The results of its parts for encoded ``inputs`` ``[rows, n_qubits]`` of the register.

        Args:
            model, version: that are asked for.
            seats: of its parts.
            inputs: radians.
            shots: of every circuit, or ``None`` for exact values.
            request: id that goes along.
            variants: of every part how many circuits it has.

        Returns:
            By part ``[rows, variants, 1 + qubits of the part]``.

        Raises:
            Unavailable: no usable answer in time.
            UnknownVersion: it does not hold this version.
        """
        parts = [{"part": seat.index, "inputs": np.ascontiguousarray(inputs[:, list(seat.qubits)])} for seat in seats]
        asked = {"model": model, "version": version, "parts": parts, "shots": shots}
        body = orjson.dumps(asked, option=orjson.OPT_SERIALIZE_NUMPY)

        def read(data: Any) -> dict[int, np.ndarray]:
            return _results(data, model, version, seats, len(inputs), shots, variants)

        return await self._ask("POST", self._run, body, request, read)

    async def push(self, files: Mapping[str, str], rollback: bool, request: str) -> None:
        """Hands it another version of its folder; raises Unavailable where it does not take it."""
        body = orjson.dumps({"files": dict(files), "rollback": rollback})
        await self._ask("PUT", self._versions, body, request, lambda data: data, force=True)

    async def _ask(self, method: str, url: httpx.URL, body: bytes, request: str, read: Callable[[Any], _R], force: bool = False) -> _R:
        if self.breaker.state == "distrusted":
            raise Unavailable(self.name, "distrusted")
        if self.breaker.state == "open" and not (force or self.breaker.due):
            raise Unavailable(self.name, "resting")
        patience = self._patience
        end = time.monotonic() + patience.total
        for attempt in range(patience.attempts):
            left = end - time.monotonic()
            try:
                if left <= 0:
                    raise _Failed("late", again=False)
                # An answer in due form that says nothing usable is a failure like silence.
                found = read(await self._once(method, url, body, request, min(patience.attempt, left)))
            except _Failed as error:
                self._noted(error.reason)
                pause = patience.pause * 2**attempt * random.uniform(0.5, 1.5)  # not in step with other gateways
                last = attempt == patience.attempts - 1 or not error.again or self.breaker.state != "closed"
                if last or time.monotonic() + pause >= end:
                    raise Unavailable(self.name, error.reason) from error
                await asyncio.sleep(pause)
            else:
                if self.breaker.state == "open":
                    self._log.event("provider-back", provider=self.name)
                self.breaker.succeeded()
                self._metrics.provider_up.labels(self.name).set(1)
                return found
        raise Unavailable(self.name, "late")

    async def _once(self, method: str, url: httpx.URL, body: bytes, request: str, seconds: float) -> Any:
        seal, once = self._seal.request(f"{method} {url.path}", body)
        headers = self._base | {HEADER: seal, REQUEST_ID: request}
        began = time.perf_counter()
        try:
            async with asyncio.timeout(seconds):
                response = await self._transport.handle_async_request(httpx.Request(method, url, content=body, headers=headers))
                content = await response.aread()
        except TimeoutError as error:
            raise _Failed("late") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _Failed("unreachable") from error
        self._metrics.provider_seconds.labels(self.name).observe(time.perf_counter() - began)
        if not self._seal.check_response(once, response.status_code, response.headers.get(HEADER, ""), content):
            raise _Failed("garbage" if response.status_code == 200 else "refused")
        try:
            data = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise _Failed("garbage") from error
        if response.status_code == 404:
            raise UnknownVersion(self.name)
        if response.status_code != 200:
            raise _Failed("refused", again=response.status_code >= 500)
        return data

    def _noted(self, reason: str) -> None:
        was = self.breaker.state
        self.breaker.failed(reason)
        self._metrics.provider_failures.labels(self.name, reason).inc()
        if was == "closed" and self.breaker.state == "open":
            self._metrics.provider_up.labels(self.name).set(0)
            self._log.event("provider-resting", provider=self.name, reason=reason)

    def caught(self, reason: str) -> None:
        """It was caught: no call goes to it any more until somebody trusts it again."""
        self.breaker.distrusted, self.breaker.reason = True, reason
        self._metrics.provider_up.labels(self.name).set(0)
        self._metrics.provider_failures.labels(self.name, "tampering").inc()


def _results(
    data: Any, model: str, version: int, seats: Sequence[Seat], rows: int, shots: int | None, variants: Mapping[int, int]
) -> dict[int, np.ndarray]:
    """What a provider returned, if it is of the form that was asked for; numbers outside of what Z can be are garbage."""
    if (
        not isinstance(data, dict)
        or (data.get("model"), data.get("version")) != (model, version)
        or not isinstance(data.get("results"), list)
    ):
        raise _Failed("garbage")
    found: dict[int, np.ndarray] = {}
    for seat, item in zip(seats, data["results"], strict=False):
        try:
            values = np.array(item["values"], float)
        except (KeyError, TypeError, ValueError) as error:
            raise _Failed("garbage") from error
        if item.get("part") != seat.index or values.shape != (rows, variants[seat.index], 1 + len(seat.qubits)):
            raise _Failed("garbage")
        if not np.isfinite(values).all() or np.abs(values).max() > _VALUE_LIMIT:
            raise _Failed("garbage")
        found[seat.index] = values
    if len(found) != len(seats) or len(data["results"]) != len(seats):
        raise _Failed("garbage")
    return found
