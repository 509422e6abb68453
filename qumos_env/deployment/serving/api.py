"""The gateway's web application: /v1/predict, the Open Inference Protocol v2, metrics, a page, and what its owner steers it by."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ...design.text_drawing import design_text
from ...errors import one_line
from .asgi import REQUEST_ID, Refused, answer, on_errors, read_body, request_id
from .gateway import Gateway, bundle_texts, row_labels
from .messages import (
    DeployRequest,
    InferResponse,
    ModelMetadata,
    Prediction,
    Predictions,
    Problem,
    RequestModels,
    RollBackRequest,
    TrustRequest,
)
from .page import page_response
from .served import Served, card_facts
from .state import Key

VERSION = "1"
"""Of the API."""
_MOST_BYTES = 2**20
_MOST_BUNDLE = 256 * 2**20
_M = TypeVar("_M", bound=BaseModel)
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why}
    for status, why in {
        400: "the request does not fit the schema",
        401: "no key, or none that is in use",
        404: "no such model or version",
        413: "the body is too large",
        429: "beyond the key's rate or quota",
        503: "a provider does not answer",
    }.items()
}
_REFUSALS[503]["headers"] = {"Retry-After": {"schema": {"type": "string"}}}
_OPEN: dict[int | str, dict[str, Any]] = {status: _REFUSALS[status] for status in (400, 404)}


def gateway_app(gateway: Gateway, on_end: Callable[[], Awaitable[None]] | None = None) -> FastAPI:
    """The application of ``gateway``; ``on_end`` is called when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        gateway.start()
        yield
        await gateway.stop()
        if on_end is not None:
            await on_end()

    title = f"QuMoS gateway: {gateway.name}"
    app = FastAPI(title=title, version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.malformed = gateway.metrics.refused.labels("malformed").inc
    models: dict[int, RequestModels] = {}

    def messages(served: Served) -> RequestModels:
        found = models.get(served.n_features)
        if found is None:
            found = models[served.n_features] = RequestModels(served.n_features)
        return found

    def written(request: Request, response: Response, reason: str = "", **fields: Any) -> Response:
        """Logs and counts what is answered."""
        route = getattr(request.state, "route", "other")
        seconds = time.perf_counter() - getattr(request.state, "began", time.perf_counter())
        identity = getattr(request.state, "id", None) or request_id(request)
        response.headers[REQUEST_ID] = identity
        gateway.metrics.answered(route, response.status_code, seconds)
        if reason:
            gateway.metrics.refused.labels(reason).inc()
            fields["reason"] = reason
        key = getattr(request.state, "key", None)
        gateway.log.request(
            id=identity, route=route, status=response.status_code, ms=round(1000 * seconds, 2), key=key.id if key else None, **fields
        )
        return response

    def refused(request: Request, error: Refused) -> Response:
        if error.reason in ("key", "forbidden"):
            gateway.state.event("key-refused", route=request.url.path[:100], reason=error.reason)
        return written(request, answer({"error": error.message}, error.status, error.headers), error.reason)

    def failed(request: Request, error: Exception) -> Response:
        gateway.log.event("failed", route=request.url.path[:100], error=one_line(repr(error))[:200])
        return written(request, answer({"error": "the gateway failed; its log says why"}, 500), "failed")

    on_errors(app, refused, failed)

    def begin(request: Request, route: str, *, keyed: bool = True, admin: bool = False) -> Key | None:
        request.state.route, request.state.began, request.state.id = route, time.perf_counter(), request_id(request)
        if not keyed:
            return None
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        key = gateway.limits.key(text.strip() if scheme.lower() == "bearer" else "")
        request.state.key = key
        if admin and not key.admin:
            raise Refused(403, "this key may not do that", "forbidden")
        return key

    def of_model(request: Request) -> int | None:
        """The version that the path asks for; ``None`` for the active one."""
        # From the path alone: FastAPI would take a version that a path lacks from the query.
        name, version = request.path_params["model"], request.path_params.get("version")
        if name != gateway.name:
            raise Refused(404, f"no model {one_line(name)[:80]}; this gateway serves {gateway.name}", "unknown-model")
        if version is None:
            return None
        if not version.isdecimal() or len(version) > 10:
            raise Refused(404, f"model {name} has no version {one_line(version)[:80]}", "unknown-version")
        return int(version)

    async def classified(
        request: Request, key: Key | None, rows: np.ndarray, version: int | None
    ) -> tuple[np.ndarray, tuple[str, ...], Served]:
        assert key is not None
        gateway.limits.admit(key, len(rows))
        try:
            found, mine, served = await gateway.classify(rows, request.state.id, version)
        except BaseException:
            gateway.limits.give_back(key, len(rows))
            raise
        gateway.metrics.rows.labels(str(served.version)).inc(len(rows))
        return found.probabilities[mine], found.missing, served

    @app.post(
        "/v1/predict",
        tags=["predict"],
        summary="Classify a row, or many",
        responses={200: {"model": Prediction | Predictions}, **_REFUSALS},
        response_class=Response,
    )
    async def predict(request: Request) -> Response:
        key = begin(request, "predict")
        body = await read_body(request, _MOST_BYTES)
        served = gateway.loaded().served
        kinds = messages(served)
        single = not body.lstrip()[:20].startswith(b'{"rows"') and b'"rows"' not in body
        asked: Any = _validated(kinds.one if single else kinds.many, body)
        rows = np.array([asked.row] if single else asked.rows, float)
        probabilities, missing, used = await classified(request, key, rows, served.version)
        classes = used.owner.classes
        labels = row_labels(classes, probabilities)
        data: dict[str, Any] = {"model": used.name, "version": used.version, "request_id": request.state.id}
        if single:
            data |= {"label": labels[0], "probabilities": dict(zip(classes, probabilities[0].tolist(), strict=True))}
        else:
            data |= {"classes": classes, "labels": labels, "probabilities": probabilities}
        data["fallback"] = {"missing": missing} if missing else None
        return written(request, answer(data), rows=len(rows), version=used.version, fallback=bool(missing))

    # The Open Inference Protocol

    @app.get("/v2", tags=["v2"], response_class=Response)
    async def server(request: Request) -> Response:
        begin(request, "metadata", keyed=False)
        return written(request, answer({"name": "qumos", "version": VERSION, "extensions": []}))

    @app.get("/v2/health/live", tags=["v2"], response_class=Response)
    async def live(request: Request) -> Response:
        begin(request, "health", keyed=False)
        return written(request, answer({"live": True}))

    @app.get("/v2/health/ready", tags=["v2"], responses={503: {}}, response_class=Response)
    async def ready(request: Request) -> Response:
        begin(request, "health", keyed=False)
        return written(request, answer({"ready": gateway.ready}, 200 if gateway.ready else 503))

    @app.get("/v2/models/{model}", tags=["v2"], responses={200: {"model": ModelMetadata}, **_REFUSALS}, response_class=Response)
    @app.get(
        "/v2/models/{model}/versions/{version}",
        tags=["v2"],
        responses={200: {"model": ModelMetadata}, **_REFUSALS},
        response_class=Response,
    )
    async def metadata(request: Request) -> Response:
        begin(request, "metadata", keyed=False)
        number = of_model(request)
        served = gateway.loaded(number).served
        numbers = [str(one) for one in (gateway.version_numbers() if number is None else (number,))]
        return written(request, answer(_metadata(served, numbers)))

    @app.get("/v2/models/{model}/ready", tags=["v2"], responses={503: {}, **_OPEN}, response_class=Response)
    @app.get("/v2/models/{model}/versions/{version}/ready", tags=["v2"], responses={503: {}, **_OPEN}, response_class=Response)
    async def model_ready(request: Request) -> Response:
        begin(request, "health", keyed=False)
        gateway.loaded(of_model(request))
        return written(request, answer({"name": gateway.name, "ready": gateway.ready}, 200 if gateway.ready else 503))

    @app.post("/v2/models/{model}/infer", tags=["v2"], responses={200: {"model": InferResponse}, **_REFUSALS}, response_class=Response)
    @app.post(
        "/v2/models/{model}/versions/{version}/infer",
        tags=["v2"],
        responses={200: {"model": InferResponse}, **_REFUSALS},
        response_class=Response,
    )
    async def infer(request: Request) -> Response:
        key = begin(request, "infer")
        number = of_model(request)
        body = await read_body(request, _MOST_BYTES)
        served = gateway.loaded(number).served
        asked: Any = _validated(messages(served).infer, body)
        rows = _tensor(asked.inputs[0], served.n_features)
        probabilities, missing, used = await classified(request, key, rows, served.version)
        wanted = ["probabilities", "label"] if not asked.outputs else [one.name for one in asked.outputs]
        outputs: dict[str, dict[str, Any]] = {
            "probabilities": {"shape": list(probabilities.shape), "datatype": "FP64", "data": probabilities.ravel()},
            "label": {"shape": [len(rows)], "datatype": "BYTES", "data": row_labels(used.owner.classes, probabilities)},
        }
        data = {
            "model_name": used.name,
            "model_version": str(used.version),
            "id": asked.id or request.state.id,
            "parameters": {"fallback": ",".join(missing)} if missing else {},
            "outputs": [{"name": name, **outputs[name]} for name in dict.fromkeys(wanted)],
        }
        return written(request, answer(data), rows=len(rows), version=used.version, fallback=bool(missing))

    # For its owner and for monitoring

    @app.get("/metrics", tags=["operate"], responses={401: _REFUSALS[401]}, response_class=Response)
    async def metrics(request: Request) -> Response:
        begin(request, "metrics")
        return written(request, Response(generate_latest(gateway.metrics.registry), media_type=CONTENT_TYPE_LATEST))

    @app.get("/v1/status", tags=["operate"], responses={401: _REFUSALS[401]}, response_class=Response)
    async def status(request: Request) -> Response:
        begin(request, "status")
        return written(request, answer(_status(gateway)))

    @app.post("/v1/deploy", tags=["operate"], include_in_schema=False)
    async def deploy(request: Request) -> Response:
        begin(request, "deploy", admin=True)
        asked = _validated(DeployRequest, await read_body(request, _MOST_BUNDLE))
        number = await gateway.deploy(bundle_texts(asked.files), request.state.id)
        return written(request, answer({"model": gateway.name, "version": number}))

    @app.post("/v1/rollback", tags=["operate"], include_in_schema=False)
    async def roll_back(request: Request) -> Response:
        begin(request, "rollback", admin=True)
        asked = _validated(RollBackRequest, await read_body(request, _MOST_BYTES))
        number = await gateway.roll_back(asked.version, request.state.id)
        return written(request, answer({"model": gateway.name, "version": number}))

    @app.post("/v1/trust", tags=["operate"], include_in_schema=False)
    async def trust(request: Request) -> Response:
        begin(request, "trust", admin=True)
        asked = _validated(TrustRequest, await read_body(request, _MOST_BYTES))
        gateway.trust(asked.provider)
        return written(request, answer({"provider": asked.provider}))

    @app.get("/v1/events", tags=["operate"], include_in_schema=False)
    async def events(request: Request) -> Response:
        begin(request, "events", admin=True)
        found = await asyncio.get_running_loop().run_in_executor(None, gateway.state.events)
        return written(request, answer({"events": found}))

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        begin(request, "page", keyed=False)
        return written(request, page_response("page"))

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        begin(request, "page", keyed=False)
        return written(request, page_response("operations"))

    @app.get("/openapi.json", include_in_schema=False)
    async def description(request: Request) -> Response:
        begin(request, "openapi", keyed=False)
        return written(request, answer(openapi()))

    def openapi() -> dict[str, Any]:
        served = gateway.loaded().served
        data = get_openapi(title=app.title, version=app.version, routes=app.routes)
        kinds = messages(served)
        parts = data.setdefault("components", {}).setdefault("schemas", {})
        for kind in (kinds.one, kinds.many, kinds.infer):
            schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            parts |= schema.pop("$defs", {})
            parts[kind.__name__] = schema
        either = {"anyOf": [{"$ref": "#/components/schemas/PredictOne"}, {"$ref": "#/components/schemas/PredictMany"}]}
        choices = {"model": [served.name], "version": [str(number) for number in gateway.version_numbers()]}
        data["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, item in data["paths"].items():
            for operation in item.values():
                operation.get("responses", {}).pop("422", None)
                given = {name: {"type": "string", "enum": choices[name]} for name in choices if f"{{{name}}}" in path}
                operation["parameters"] = [{"name": name, "in": "path", "required": True, "schema": one} for name, one in given.items()]
                if path == "/v1/predict" or path.endswith("/infer"):
                    wanted = either if path == "/v1/predict" else {"$ref": "#/components/schemas/InferRequest"}
                    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": wanted}}}
                if path in ("/v1/predict", "/metrics", "/v1/status") or path.endswith("/infer"):
                    operation["security"] = [{"key": []}]
        return data

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _validated(kind: type[_M], body: bytes) -> _M:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "body"
        raise Refused(400, one_line(f"{where}: {first['msg']}")[:300], "schema") from error


def _tensor(tensor: Any, n_features: int) -> np.ndarray:
    """The rows of an input tensor; raises Refused where shape and data do not fit together."""
    shape, data = tuple(tensor.shape), tensor.data
    nested = isinstance(data[0], list)
    found = (len(data), n_features) if nested else (len(data) // n_features, n_features)
    if shape != found or (not nested and len(data) != math.prod(shape)):
        raise Refused(400, f"inputs.0: shape {list(shape)} does not fit the data; [rows, {n_features}] is needed", "shape")
    return np.array(data, float).reshape(shape)


def _metadata(served: Served, versions: list[str]) -> dict[str, Any]:
    return {
        "name": served.name,
        "versions": versions,
        "platform": "qumos",
        "inputs": [{"name": "features", "datatype": "FP64", "shape": [-1, served.n_features]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP64", "shape": [-1, len(served.owner.classes)]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def _status(gateway: Gateway) -> dict[str, Any]:
    served = gateway.loaded().served
    return {
        "model": served.name,
        "version": served.version,
        "versions": gateway.version_numbers(),
        "ready": gateway.ready,
        "providers": gateway.providers(),
        "recent": gateway.metrics.recent(),
        "card": card_facts(served),
        "features": served.n_features,
        "classes": list(served.owner.classes),
        "drawing": design_text(served.owner.design),
    }
