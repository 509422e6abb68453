"""The server of one provider: runs the circuits of its own parts for the gateway that holds its token, and knows nothing else.

GET  /health                     is it there; for anyone
POST /v1/run                     encoded inputs in, expectation values or counts out
GET  /v1/versions                what it holds
PUT  /v1/versions                another signed version of its own folder
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ...errors import QumosError, one_line
from ..schema import MANIFEST, MOST_QUBITS, ModelName, Version
from .asgi import REQUEST_ID, Refused, answer, on_errors, read_body, request_id
from .engines import MOST_SHOTS, Engine, make_engine, readings
from .logs import Log
from .part_files import ProviderFolder, read_provider
from .seal import HEADER, Seal

if TYPE_CHECKING:
    from ...simulation.channels import NoiseSpec
    from ..vendors import Backend

RUN, VERSIONS = "/v1/run", "/v1/versions"
MOST_ROWS = 4096
_MOST_BYTES = 8 * 2**20
_MOST_FILES = 64 * 2**20
_MOST_VERSIONS = 16
_INLINE = 2**14  # amplitudes times variants that are simulated without another thread


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PartInputs(_Message):
    """Encoded features of one part, in radians, a row a query."""

    part: Annotated[int, Field(ge=0, lt=MOST_QUBITS)]
    inputs: Annotated[
        list[Annotated[list[Annotated[float, Field(ge=-1e6, le=1e6)]], Field(min_length=1, max_length=MOST_QUBITS)]],
        Field(min_length=1, max_length=MOST_ROWS),
    ]


class RunRequest(_Message):
    """What the gateway asks."""

    model: ModelName
    version: Version
    parts: Annotated[list[PartInputs], Field(min_length=1, max_length=MOST_QUBITS)]
    shots: Annotated[int | None, Field(ge=1, le=MOST_SHOTS)] = None
    readout: Literal["values", "counts"] = "values"


class FilesRequest(_Message):
    """Another version of the provider's folder: its files by name."""

    files: Annotated[dict[str, str], Field(max_length=10_000)]
    rollback: bool = False


@dataclass(frozen=True)
class Settings:
    """How a provider runs its parts.

    Attributes:
        seed: of its shots.
        noise: of the local simulator.
        backend: adapter and sampler in its place.
        public_key: the owner's; default the one that signed the folder.
    """

    seed: int | None = None
    noise: NoiseSpec | None = None
    backend: Backend | None = None
    public_key: str | None = None


@dataclass
class Held:
    """A version that the provider holds: its files, and an engine for each part."""

    folder: ProviderFolder
    engines: Mapping[int, Engine] = field(default_factory=dict)


class Provider:
    """The versions of one provider's folder, and what runs them.

    Args:
        folder: the provider's folder.
        settings: how.

    Raises:
        QumosError: a folder that is not whole, or parts that the backend cannot run.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._settings = settings
        self._seeds = np.random.SeedSequence(settings.seed)
        first = read_provider(folder, settings.public_key)
        self.name, self.model = first.manifest.provider, first.manifest.name
        self._key = first.manifest.signature.public_key
        self.versions: dict[int, Held] = {}
        self._hold(first)

    def _hold(self, folder: ProviderFolder) -> None:
        chosen = self._settings
        (seeds,) = self._seeds.spawn(1)
        generator = np.random.default_rng(seeds)
        engines = {index: make_engine(part, generator, chosen.noise, chosen.backend) for index, part in folder.parts.items()}
        self.versions[folder.manifest.version] = Held(folder, engines)
        for number in sorted(self.versions)[:-_MOST_VERSIONS]:
            del self.versions[number]

    def add(self, contents: Mapping[str, bytes], rollback: bool) -> int:
        """Takes another version of the folder in; returns its number.

        Raises:
            Refused: not signed by the owner, for another provider or model, or older than what is held and no rollback.
        """
        try:
            folder = read_provider(Path("files"), self._key, contents)
        except QumosError as error:
            raise Refused(403, one_line(error), "forged") from error
        manifest = folder.manifest
        if (manifest.provider, manifest.name) != (self.name, self.model):
            raise Refused(403, f"the files are those of {manifest.provider} for model {manifest.name}", "misdirected")
        held = self.versions.get(manifest.version)
        if held is not None:
            if held.folder.digest != folder.digest:
                raise Refused(409, f"version {manifest.version} is held with other content", "forged")
            return manifest.version
        if manifest.version < max(self.versions) and not rollback:
            raise Refused(409, f"version {manifest.version} is older than {max(self.versions)}, which is held", "replayed")
        try:
            self._hold(folder)
        except QumosError as error:
            raise Refused(422, one_line(error), "unfit") from error
        return manifest.version

    def run(self, request: RunRequest) -> list[dict[str, Any]]:
        """The results of the parts that are asked for.

        Raises:
            Refused: a version or part that is not held, or inputs that do not fit it.
        """
        held = self.versions.get(request.version)
        if held is None or request.model != self.model:
            raise Refused(404, f"version {request.version} of model {request.model} is not held", "unknown-version")
        found = []
        for asked in request.parts:
            part, engine = held.folder.parts.get(asked.part), held.engines.get(asked.part)
            if part is None or engine is None:
                raise Refused(404, f"part {asked.part} is not run here", "unknown-part")
            if any(len(row) != len(part.qubits) for row in asked.inputs):
                raise Refused(422, f"part {asked.part} takes {len(part.qubits)} inputs a row", "shape")
            try:
                outcomes = engine.outcomes(np.array(asked.inputs, float), request.shots)
            except QumosError as error:
                raise Refused(422, one_line(error), "inputs") from error
            if request.readout == "values":
                found.append({"part": asked.part, "values": readings(part, outcomes)})
            elif request.shots is None:
                raise Refused(422, "counts: say how many shots", "shots")
            else:
                found.append({"part": asked.part, "counts": [_counts(one, request.shots) for one in outcomes]})
        return found

    def work(self, request: RunRequest) -> float:
        """Amplitudes that a request takes, to tell the small ones."""
        held = self.versions.get(request.version)
        if held is None:
            return 0.0
        if self._settings.noise is not None or self._settings.backend is not None:
            return math.inf
        parts = ((held.folder.parts.get(one.part), len(one.inputs)) for one in request.parts)
        return sum(rows * sum(2.0 ** len(variant.qubits) for variant in part.variants) for part, rows in parts if part is not None)


def _counts(frequencies: np.ndarray, shots: int) -> list[dict[str, int]]:
    """Of every row the outcomes that were seen, as bits in the order of the variant's qubits, and how often."""
    width = frequencies.shape[1].bit_length() - 1
    numbers = np.rint(frequencies * shots).astype(int)
    return [{format(place, f"0{width}b"): int(row[place]) for place in np.flatnonzero(row)} for row in numbers]


def provider_app(provider: Provider, token: str, log: Log) -> FastAPI:
    """The application of ``provider`` for the gateway that holds ``token``."""
    app = FastAPI(title=f"QuMoS provider {provider.name}", docs_url=None, redoc_url=None, openapi_url=None)
    seal = Seal(token)

    async def authentic(request: Request, most: int) -> bytes:
        body = await read_body(request, most)
        once = seal.check_request(f"{request.method} {request.url.path}", request.headers.get(HEADER, ""), body)
        if once is None:
            raise Refused(401, "a seal with this provider's token is needed, made now and used once", "not-authentic")
        request.state.once = once
        return body

    def sealed(request: Request, response: Response) -> Response:
        once = getattr(request.state, "once", None)
        if once is not None:
            response.headers[HEADER] = seal.response(once, response.status_code, bytes(response.body))
        return response

    def refused(request: Request, error: Refused) -> Response:
        log.event("refused", id=request_id(request), route=request.url.path, status=error.status, reason=error.reason)
        return sealed(request, answer({"error": error.message}, error.status, error.headers))

    def failed(request: Request, error: Exception) -> Response:
        log.event("failed", id=request_id(request), route=request.url.path, error=one_line(repr(error))[:200])
        return sealed(request, answer({"error": "the provider failed"}, 500))

    on_errors(app, refused, failed)

    @app.get("/health")
    async def health() -> Response:
        return answer({"status": "ok"})

    @app.post(RUN)
    async def run(request: Request) -> Response:
        began = time.perf_counter()
        body = await authentic(request, _MOST_BYTES)
        asked = _validated(RunRequest, body)
        if provider.work(asked) <= _INLINE:
            results = provider.run(asked)
        else:
            results = await asyncio.get_running_loop().run_in_executor(None, provider.run, asked)
        response = answer({"model": asked.model, "version": asked.version, "results": results})
        rows, took = len(asked.parts[0].inputs), time.perf_counter() - began
        log.request(id=request.headers.get(REQUEST_ID, ""), route=RUN, status=200, rows=rows, ms=round(1000 * took, 2))
        return sealed(request, response)

    @app.get(VERSIONS)
    async def versions(request: Request) -> Response:
        await authentic(request, 0)
        held = [{"version": number, "digest": one.folder.digest} for number, one in sorted(provider.versions.items())]
        return sealed(request, answer({"model": provider.model, "provider": provider.name, "versions": held}))

    @app.put(VERSIONS)
    async def add(request: Request) -> Response:
        body = await authentic(request, _MOST_FILES)
        asked = _validated(FilesRequest, body)
        contents = {name: text.encode("utf-8", "surrogatepass") for name, text in asked.files.items()}
        if MANIFEST not in contents:
            raise Refused(422, f"no {MANIFEST} among the files", "forged")
        number = await asyncio.get_running_loop().run_in_executor(None, provider.add, contents, asked.rollback)
        log.event("version", version=number)
        return sealed(request, answer({"version": number}))

    return app


_M = TypeVar("_M", bound=BaseModel)


def _validated(kind: type[_M], body: bytes) -> _M:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise Refused(422, one_line(f"{where}: {first['msg']}")[:200], "schema") from error
