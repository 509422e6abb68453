"""What gateway and provider share as web applications: request ids, limits of bodies, errors of one form."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

REQUEST_ID = "x-request-id"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
Handler = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """A request that is refused.

    Attributes:
        status: of HTTP.
        message: one line for who asked.
        reason: a word for logs and metrics.
        headers: further ones.
    """

    def __init__(self, status: int, message: str, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.reason, self.headers = status, message, reason, dict(headers or {})


def answer(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``data`` as JSON."""
    content = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(content, status, dict(headers or {}), "application/json")


def request_id(request: Request) -> str:
    """That of the request, if it is one, or a new one."""
    given = request.headers.get(REQUEST_ID, "")
    return given if _ID.fullmatch(given) else secrets.token_hex(8)


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        Refused: it has more than ``most`` bytes, or does not arrive.
    """
    declared = request.headers.get("content-length")
    too_large = Refused(413, f"the body has more than {most:,} bytes", "too-large", {"connection": "close"})
    if declared is not None and (not declared.isdecimal() or int(declared[:19]) > most):
        raise too_large
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise too_large
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise Refused(400, "the body did not arrive", "disconnected") from error
    return b"".join(chunks)


def parse_json(body: bytes) -> Any:
    """The JSON in ``body``; raises Refused for anything else."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is not JSON ({str(error)[:100]})", "not-json") from error


def on_errors(app: FastAPI, refused: Callable[[Request, Refused], Response], failed: Callable[[Request, Exception], Response]) -> None:
    """Gives errors of all kinds one form: ``refused`` answers those of clients, ``failed`` what nobody expected."""

    async def handle_refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return refused(request, error)

    async def handle_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return refused(request, Refused(error.status_code, str(error.detail), f"http-{error.status_code}", error.headers))

    async def handle_invalid(request: Request, error: Exception) -> Response:
        return refused(request, Refused(400, "the request does not fit the schema", "schema"))

    async def handle_failure(request: Request, error: Exception) -> Response:
        return failed(request, error)

    app.add_exception_handler(Refused, handle_refused)
    app.add_exception_handler(HTTPException, handle_http)
    app.add_exception_handler(RequestValidationError, handle_invalid)
    app.add_exception_handler(Exception, handle_failure)
