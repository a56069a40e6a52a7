"""The door: the HTTP application of a node."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gridnode import __version__
from gridnode.control.answer_stream import AnswerStream
from gridnode.control.door_errors import ErrorBody, describe_error
from gridnode.control.door_response import error_response, json_response
from gridnode.control.guard import LocalOnly
from gridnode.control.interface import NodeControl
from gridnode.control.readiness import readiness
from gridnode.control.schema import GenerateRequest
from gridnode.control.server_sent import EventEncoder
from gridnode.control.status_events import make_event_routes
from gridnode.core.sampling import SamplingParams
from gridnode.errors import BadInput, ErrorCode, GridError
from gridnode.units import MIB, format_bytes

# The longest prompt (MAX_PROMPT_CHARACTERS) in UTF-8, with room for its JSON around it.
MAX_BODY_BYTES = 32 * MIB

Endpoint = Callable[[Request], Awaitable[Response]]


def create_door(control: NodeControl, *, pages: Sequence[BaseRoute] = ()) -> Starlette:
    """Build the HTTP application of the node behind `control`.

    Set `app.state.closing` (an `asyncio.Event`) to end the answers that run.

    Args:
        pages: Routes for people, beside those for programs.
    """
    app = Starlette(
        routes=[*make_routes(control), *pages],
        middleware=[Middleware(LocalOnly)],
        exception_handlers={HTTPException: _http_error, GridError: _grid_error, Exception: _internal_error},
    )
    app.state.closing = asyncio.Event()
    return app


def make_routes(control: NodeControl) -> list[BaseRoute]:
    """Return everything that the door answers to."""

    async def health(request: Request) -> Response:
        return json_response({"healthy": True})

    async def ready(request: Request) -> Response:
        found = readiness(control.status())
        return json_response(found, status=200 if found.ready else 503)

    async def version(request: Request) -> Response:
        return json_response({"version": __version__})

    async def status(request: Request) -> Response:
        return json_response(control.status())

    async def run(request: Request) -> Response:
        wanted = decode_request(await read_body(request))
        return AnswerStream(
            control.generate(wanted), encoder=EventEncoder(), closing=request.app.state.closing
        )

    return [
        Route("/health", health),
        Route("/ready", ready),
        Route("/api/v1/version", version),
        Route("/api/v1/status", status),
        Route("/api/v1/run", run, methods=["POST"]),
        *make_event_routes(control),
    ]


class _BodyTooLarge(BadInput):
    """Raised when a request is longer than the door reads."""


async def read_body(request: Request) -> bytes:
    """Return the body of a request, read to its limit and not beyond.

    Raises:
        BadInput: there is more than `MAX_BODY_BYTES`.
    """
    too_large = _BodyTooLarge(
        f"the body is longer than {format_bytes(MAX_BODY_BYTES)}, which the door does not read"
    )
    if int(request.headers.get("content-length", 0)) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    return bytes(body)


def decode_request(body: bytes) -> GenerateRequest:
    """Return the request that `body` holds.

    Raises:
        BadInput: it is not JSON, or a field is unknown or has a wrong value; the text names it.
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        _refuse_unknown(fields, GenerateRequest, "")
        if "sampling" in fields:
            sampling = msgspec.json.decode(fields["sampling"], type=dict[str, msgspec.Raw])
            _refuse_unknown(sampling, SamplingParams, "sampling.")
        return msgspec.json.decode(body, type=GenerateRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadInput(f"the request cannot be used: {exc}") from exc


def _refuse_unknown(given: dict[str, msgspec.Raw], record: type, prefix: str) -> None:
    """Refuse names that `record` lacks: a misspelt limit must not silently be no limit."""
    known = {field.name for field in dataclasses.fields(record)}
    if unknown := sorted(given.keys() - known):
        raise BadInput(
            f"unknown field {prefix + unknown[0][:64]!r}; known are {', '.join(sorted(known))}",
        )


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    text = f"{request.method} {request.url.path[:200]}: {exc.detail.lower()}"
    response = error_response(ErrorBody(code=ErrorCode.BAD_INPUT, message=text), status=exc.status_code)
    response.headers.update(exc.headers or {})  # 405 names the methods that are allowed
    return response


async def _grid_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, GridError)
    status = 413 if isinstance(exc, _BodyTooLarge) else None
    return error_response(describe_error(exc), status=status)


async def _internal_error(request: Request, exc: Exception) -> Response:
    # Starlette raises the exception again behind this answer, and the server logs it.
    body = ErrorBody(code=ErrorCode.INTERNAL, message="internal error; the node's log says more")
    return error_response(body)
