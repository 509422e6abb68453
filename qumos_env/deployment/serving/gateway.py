"""The gateway: from raw features to answers, through the providers; versions of the model, customers and their limits."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from ...errors import QumosError, one_line
from ..schema import MANIFEST
from .asgi import Refused
from .batching import Batcher, Overloaded
from .calls import Patience, ProviderClient, Unavailable, UnknownVersion
from .canaries import Checks, Inspector
from .logs import Log
from .metrics import Metrics
from .served import Served, contents_of, read_served
from .state import Key, State, match_key

MOST_ROWS = 256
"""Of one request."""
_MOST_LOADED = 8
_REFRESH = 0.5  # seconds between looks at keys that other processes changed, and writes of what was used
_PROBE = 0.25
_IDLE_CHECK = 10.0  # seconds after which a provider that nobody asked is checked


@dataclass(frozen=True)
class GatewaySettings:
    """How the gateway serves.

    Attributes:
        patience: with providers.
        checks: of providers.
        shots: of every circuit; default the design's.
        most_waiting: rows that may wait for providers.
        seed: of what is checked.
    """

    patience: Patience = field(default_factory=Patience)
    checks: Checks = field(default_factory=Checks)
    shots: int | None = None
    most_waiting: int = 8192
    seed: int | None = None


@dataclass(frozen=True)
class Answered:
    """The answer to a batch.

    Attributes:
        probabilities: ``[rows, classes]``.
        missing: providers whose parts were replaced.
    """

    probabilities: np.ndarray
    missing: tuple[str, ...]


@dataclass
class Loaded:
    """A version in memory, and the rows that wait for it."""

    served: Served
    batcher: Batcher[Answered]


class Gateway:
    """Serves one model, in versions.

    Args:
        first: the bundle that it starts with.
        urls, tokens: of its providers, by name.
        state: what survives a restart.
        transport: the pool of connections to the providers.
        settings: how it serves.
        log: where it writes.

    Raises:
        QumosError: a bundle that is older than those that were deployed, or of another owner; a provider without address or token.
    """

    def __init__(
        self,
        first: Path,
        urls: Mapping[str, str],
        tokens: Mapping[str, str],
        state: State,
        transport: httpx.AsyncBaseTransport,
        settings: GatewaySettings,
        log: Log,
        public_key: str | None = None,
    ) -> None:
        self.state, self.settings, self.log, self.metrics = state, settings, log, Metrics()
        self._loaded: dict[int, Loaded] = {}
        served = read_served(first, public_key)
        self.name, self.public_key = served.name, served.public_key
        for provider in served.seats:
            for what, found in (("address", urls), ("token", tokens)):
                if provider not in found:
                    raise QumosError(f"no {what} of provider {provider}, which the bundle uses")
        self._inspectors: dict[str, Inspector] = {}
        self._asked = dict.fromkeys(served.seats, 0.0)
        self.clients: dict[str, ProviderClient] = {}
        seeds = np.random.SeedSequence(settings.seed).spawn(len(served.seats) + 1)
        self._generator = np.random.default_rng(seeds[-1])
        for provider, seed in zip(sorted(served.seats), seeds, strict=False):
            reached = (provider, urls[provider], tokens[provider], transport)
            self.clients[provider] = ProviderClient(*reached, settings.patience, self.metrics, log)
            self._inspectors[provider] = Inspector(settings.checks, np.random.default_rng(seed))
        self.active = self._resumed(served, contents_of(first))
        self.metrics.version.set(self.active)
        self.limits = Limits(state, self.metrics)
        self._tasks: list[asyncio.Task[None]] = []
        self._deploying = asyncio.Lock()

    # Versions

    def _resumed(self, served: Served, contents: Mapping[str, bytes]) -> int:
        """Takes the bundle that the gateway was started with beside those that were deployed before; the number of the active one."""
        known = {row.version: row for row in self.state.versions(self.name)}
        self._check_release(served, known)
        if served.version not in known:
            self.state.keep(contents, self.name, served.version, served.digest, served.public_key)
            active = served.version
        else:
            active = next((number for number, row in known.items() if row.active), served.version)
        self._load(served)
        if active != served.version:
            self._load(read_served(self.state.bundle_path(self.name, active), self.public_key))
        return active

    def _check_release(self, served: Served, known: Mapping[int, Any]) -> None:
        """Raises QumosError where a bundle is forged, or an old one that is shown again."""
        if served.name != self.name:
            raise QumosError(f"the bundle is of model {served.name}, this gateway serves {self.name}")
        for row in known.values():
            if row.public_key != served.public_key:
                raise QumosError(
                    f"version {served.version} is signed with another key than version {row.version}, which was deployed before"
                )
        row = known.get(served.version)
        if row is not None and row.digest != served.digest:
            raise QumosError(f"version {served.version} was deployed before with other content; give the bundle a higher version")
        if row is None and known and served.version < max(known):
            raise QumosError(f"version {served.version} is older than {max(known)}, which was deployed before; roll back instead")

    def _load(self, served: Served) -> Loaded:
        waiting, seconds = self.settings.most_waiting, self.settings.patience.total
        loaded = Loaded(
            served, Batcher(lambda rows, request: self._classified(served, rows, request), most_waiting=waiting, seconds=seconds)
        )
        self._loaded[served.version] = loaded
        spare = [number for number in sorted(self._loaded) if number not in (getattr(self, "active", None), served.version)]
        for number in spare[: max(0, len(self._loaded) - _MOST_LOADED)]:
            del self._loaded[number]
        return loaded

    def version_numbers(self) -> list[int]:
        """All versions that are kept, oldest first."""
        return [row.version for row in self.state.versions(self.name)]

    def loaded(self, version: int | None = None) -> Loaded:
        """The active version, or another one that is kept; raises Refused where there is none."""
        number = self.active if version is None else version
        if number in self._loaded:
            return self._loaded[number]
        if number not in self.version_numbers():
            raise Refused(404, f"model {self.name} has no version {number}", "unknown-version")
        try:
            return self._load(read_served(self.state.bundle_path(self.name, number), self.public_key))
        except QumosError as error:
            self.log.event("damaged-version", version=number, error=str(error))
            raise Refused(503, f"version {number} cannot be served any more", "damaged") from error

    async def deploy(self, contents: Mapping[str, bytes], request: str) -> int:
        """Replaces the active version by the bundle of these files, without an end to what is under way; returns its number.

        Raises:
            Refused: the bundle is not whole, forged, old, of other providers, or a provider does not take it.
        """
        async with self._deploying:
            loop = asyncio.get_running_loop()
            try:
                served = await loop.run_in_executor(None, read_served, Path("bundle"), self.public_key, contents)
                self._check_release(served, {row.version: row for row in self.state.versions(self.name)})
            except QumosError as error:
                self.state.event("deploy-refused", error=str(error))
                raise Refused(409, one_line(error), "forged") from error
            strangers = served.seats.keys() - self.clients.keys()
            if strangers:
                raise Refused(409, f"the gateway has no address of provider {min(strangers)}", "unknown-provider")
            await self._tried(served, request)
            await loop.run_in_executor(None, self.state.keep, contents, self.name, served.version, served.digest, served.public_key)
            self._load(served)
            self._activate(served.version, "deployed")
            return served.version

    async def roll_back(self, version: int, request: str) -> int:
        """Makes a version that is kept the active one; raises Refused where it is not kept, or a provider does not take it."""
        async with self._deploying:
            served = self.loaded(version).served
            await self._tried(served, request)
            self.state.activate(self.name, version)
            self._activate(version, "rolled-back")
            return version

    def _activate(self, version: int, event: str) -> None:
        self.active = version
        self.metrics.version.set(version)
        self.state.event(event, version=version)
        self.log.event(event, version=version)

    async def _tried(self, served: Served, request: str) -> None:
        """Hands a version to its providers and holds what they return against the owner's simulation; raises Refused."""
        inputs = self._random_inputs(served, 4)
        try:
            for provider in served.seats:
                await self.clients[provider].push(served.files[provider], True, request)
            for provider in served.seats:
                await self._called(served, provider, inputs, request, check=True)
        except Unavailable as error:
            self.state.event("deploy-refused", error=str(error))
            raise Refused(503, f"the version was not taken into use: {error}", "provider") from error

    # Answers

    async def classify(self, rows: np.ndarray, request: str, version: int | None = None) -> tuple[Answered, slice, Served]:
        """The answer to raw ``rows`` ``[n, features]``, which may stand among others' of one batch.

        Raises:
            Refused: no such version, too many rows under way, or a provider that does not answer, where no fallback is allowed.
        """
        loaded = self.loaded(version)
        try:
            answered, mine = await loaded.batcher.submit(rows, request)
        except Overloaded as error:
            raise Refused(503, "too many rows are waiting", "overloaded", {"retry-after": "1"}) from error
        except Unavailable as error:
            raise Refused(503, str(error), f"provider-{error.reason}", {"retry-after": "1"}) from error
        return answered, mine, loaded.served

    async def _classified(self, served: Served, rows: np.ndarray, request: str) -> Answered:
        inputs = served.owner.preprocessor.transform(rows)
        self.metrics.batch.observe(len(rows))
        providers = list(served.seats)
        found = await asyncio.gather(*(self._called(served, provider, inputs, request) for provider in providers), return_exceptions=True)
        results: dict[int, np.ndarray] = {}
        missing: list[str] = []
        for provider, one in zip(providers, found, strict=True):
            if isinstance(one, Unavailable):
                if served.owner.fallback is None:
                    raise one
                missing.append(provider)
            elif isinstance(one, BaseException):
                raise one
            else:
                results |= one
        if not results:
            raise Unavailable(missing[0], "unreachable, as are all others")
        if missing:
            self.metrics.fallbacks.inc(len(rows))
        return Answered(served.probabilities(results), tuple(missing))

    async def _called(self, served: Served, provider: str, inputs: np.ndarray, request: str, check: bool = False) -> dict[int, np.ndarray]:
        """The results of one provider, checked now and then; raises Unavailable."""
        client, shots = self.clients[provider], self._shots(served)
        seats = served.seats[provider]

        async def asked() -> dict[int, np.ndarray]:
            return await client.run(served.name, served.version, seats, inputs, shots, request, served.variants())

        try:
            results = await asked()
        except UnknownVersion:
            # It was started anew, from an older folder.
            await client.push(served.files[provider], True, request)
            try:
                results = await asked()
            except UnknownVersion as error:
                raise Unavailable(provider, "refused") from error
        inspector = self._inspectors[provider]
        chosen = np.arange(len(inputs)) if check else inspector.chosen(len(inputs))
        if chosen is not None:
            self._inspected(served, provider, chosen, inputs, results, shots)
        self._asked[provider] = time.monotonic()
        return results

    def _inspected(
        self, served: Served, provider: str, chosen: np.ndarray, inputs: np.ndarray, results: Mapping[int, np.ndarray], shots: int | None
    ) -> None:
        inspector = self._inspectors[provider]
        suspicious = any(
            inspector.suspicious(served, seat, inputs[chosen], results[seat.index][chosen], shots) for seat in served.seats[provider]
        )
        self.metrics.canaries.labels(provider, "suspicious" if suspicious else "good").inc(len(chosen))
        if inspector.alarm(suspicious, shots):
            self.clients[provider].caught("its answers are not those of its circuits")
            self.state.event("provider-caught", provider=provider, version=served.version)
            self.log.event("provider-caught", provider=provider, version=served.version)
            raise Unavailable(provider, "distrusted")

    def _shots(self, served: Served) -> int | None:
        return self.settings.shots if self.settings.shots is not None else served.owner.design.shots

    def _random_inputs(self, served: Served, rows: int) -> np.ndarray:
        """Encoded rows that no customer sent: any angles that preprocessing gives."""
        low, high = served.owner.preprocessor.angle_range
        return self._generator.uniform(low, high, (rows, served.owner.n_qubits))

    # Health

    def providers(self) -> list[dict[str, Any]]:
        """State of every provider."""
        served = self.loaded().served
        return [
            {
                "provider": name,
                "state": client.breaker.state,
                "reason": client.breaker.reason,
                "parts": [seat.index for seat in served.seats.get(name, ())],
            }
            for name, client in sorted(self.clients.items())
        ]

    @property
    def ready(self) -> bool:
        """Whether rows can be classified: all providers answer, or one does and the owner allows answers without the others."""
        served = self.loaded().served
        closed = [self.clients[name].breaker.state == "closed" for name in served.seats]
        return all(closed) or (served.owner.fallback is not None and any(closed))

    def trust(self, provider: str) -> None:
        """Lets a provider that was caught take part again; raises Refused where there is none of this name."""
        if provider not in self.clients:
            raise Refused(404, f"no provider {provider}", "unknown-provider")
        self.clients[provider].breaker.trust()
        self.metrics.provider_up.labels(provider).set(1)
        self.state.event("provider-trusted", provider=provider)
        self.log.event("provider-trusted", provider=provider)

    def start(self) -> None:
        """Begins what goes on beside requests."""
        self._tasks = [asyncio.create_task(self._probing()), asyncio.create_task(self.limits.refreshing())]

    async def stop(self) -> None:
        """Ends it, and writes down what is not yet written."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.limits.flush()

    async def _probing(self) -> None:
        """Asks providers that rest whether they are back, and checks those that nobody asks."""
        while True:
            await asyncio.sleep(_PROBE)
            now = time.monotonic()
            for name, client in self.clients.items():
                served = self.loaded().served
                idle = client.breaker.state == "closed" and now - self._asked[name] > _IDLE_CHECK
                if name in served.seats and (client.breaker.due or idle):
                    self._asked[name] = now
                    # As of any customer's request, or a provider would know when it is looked at.
                    identity = secrets.token_hex(8)
                    try:
                        await self._called(served, name, self._random_inputs(served, 2), identity, check=self.settings.checks.rate > 0)
                    except Unavailable:
                        continue
                    except Exception as error:  # whatever it is, the others must still be probed
                        self.log.event("failed", route="probe", provider=name, error=one_line(repr(error))[:200])


class Limits:
    """Who may ask, and how much.

    Args:
        state: where keys and what they used are kept.
        metrics: where refusals are counted.
    """

    def __init__(self, state: State, metrics: Metrics) -> None:
        self._state, self._metrics = state, metrics
        self._keys = state.keys()
        self._day = _today()
        self._used: dict[str, int] = defaultdict(int, state.usage(self._day))
        self._unwritten: dict[str, int] = defaultdict(int)
        self._buckets: dict[str, tuple[float, float]] = {}

    def key(self, text: str) -> Key:
        """The key that a request carries; raises Refused where it is none, or ended."""
        key = match_key(self._keys, text)
        if key is None or key.revoked is not None:
            raise Refused(401, "an API key is needed: Authorization: Bearer qk_...", "key", {"www-authenticate": "Bearer"})
        return key

    def admit(self, key: Key, rows: int) -> None:
        """Counts a request for ``rows`` rows; raises Refused beyond the key's rate or quota."""
        self._new_day()
        if key.rate is not None:
            now, burst = time.monotonic(), max(1.0, key.rate)
            tokens, since = self._buckets.get(key.id, (burst, now))
            tokens = min(burst, tokens + (now - since) * key.rate)
            if tokens < 1:
                self._buckets[key.id] = tokens, now
                wait = max(1, round((1 - tokens) / key.rate + 0.5))
                raise Refused(429, f"more than {key.rate:g} requests a second", "rate", {"retry-after": str(wait)})
            self._buckets[key.id] = tokens - 1, now
        if key.quota is not None and self._used[key.id] + rows > key.quota:
            left = max(0, key.quota - self._used[key.id])
            raise Refused(429, f"the quota of {key.quota} rows a day has {left} left", "quota", {"retry-after": str(_seconds_of_day())})
        self._used[key.id] += rows
        self._unwritten[key.id] += rows

    def give_back(self, key: Key, rows: int) -> None:
        """Rows that were admitted and not answered are not counted."""
        self._used[key.id] -= rows
        self._unwritten[key.id] -= rows

    def _new_day(self) -> None:
        today = _today()
        if today != self._day:
            self.flush()
            self._day, self._used = today, defaultdict(int, self._state.usage(today))

    def flush(self) -> None:
        """Writes down what was used."""
        rows = {identity: count for identity, count in self._unwritten.items() if count}
        if rows:
            self._state.add_usage(self._day, rows)
        self._unwritten.clear()

    async def refreshing(self) -> None:
        """Reads keys that other processes made or ended, and writes down what was used, now and then."""
        while True:
            await asyncio.sleep(_REFRESH)
            try:
                self.flush()
                self._keys = self._state.keys()
            except sqlite3.Error:
                # A disk that is full, or another process that writes: what was used is kept in memory until the next time.
                self._metrics.refused.labels("state").inc()


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def _seconds_of_day() -> int:
    return 86400 - int(time.time()) % 86400


def bundle_texts(contents: Mapping[str, str]) -> dict[str, bytes]:
    """Files of a bundle as they came in a request; raises Refused where there is no manifest among them."""
    if MANIFEST not in contents:
        raise Refused(400, f"no {MANIFEST} among the files", "schema")
    return {name: text.encode("utf-8", "surrogatepass") for name, text in contents.items()}


def row_labels(classes: Sequence[str], probabilities: np.ndarray) -> list[str]:
    """Most probable class of every row."""
    return [classes[index] for index in probabilities.argmax(axis=1)]
