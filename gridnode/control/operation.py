"""Routes for programs, and their description in OpenAPI 3.1: made from the records, never by hand."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gridnode import __version__
from gridnode.control.door_errors import ErrorAnswer
from gridnode.control.login_page import COOKIE
from gridnode.control.server_sent import EVENT_STREAM

Endpoint = Callable[[Request], Awaitable[Response]]

_JSON = "application/json"
_REFERENCE = "#/components/schemas/{name}"
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`gridnode keys create NAME` makes a key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "Set by `/login`."},
}


class Operation(Route):
    """A route that takes and gives records.

    Args:
        summary: What it does, in a few words for people.
        answer: The record of a good answer; None if there are streams only.
        body: The record of the request's body.
        error: The record of an answer that is not what was asked for.
        events: The records of a stream, if there is one.
        stream: Media type of the stream.
    """

    def __init__(
        self,
        method: str,
        path: str,
        endpoint: Endpoint,
        *,
        summary: str,
        answer: Any = None,
        body: Any = None,
        error: Any = ErrorAnswer,
        events: Sequence[Any] = (),
        stream: str = EVENT_STREAM,
    ) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.method = method
        self.summary = summary
        self.answer = answer
        self.body = body
        self.error = error
        self.events = tuple(events)
        self.stream = stream

    @property
    def records(self) -> tuple[Any, ...]:
        """Everything that it takes and gives."""
        found = (self.answer, self.body, self.error, *self.events)
        return tuple(record for record in found if record is not None)


def description_route() -> Route:
    """Return the route that describes all operations of its application."""
    document = b""

    async def describe(request: Request) -> Response:
        nonlocal document
        if not document:
            # Schemas of a hundred records take some tenths of a second, which the node does not have.
            described = await asyncio.to_thread(describe_operations, request.app.routes)
            document = msgspec.json.encode(described)
        return Response(document, media_type=_JSON)

    return Route("/openapi.json", describe)


def describe_operations(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the OpenAPI document of those of `routes` that are operations."""
    operations = [route for route in routes if isinstance(route, Operation)]
    records = list(dict.fromkeys(record for operation in operations for record in operation.records))
    found, components = msgspec.json.schema_components(records, ref_template=_REFERENCE)
    schemas = dict(zip(records, found, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        # Starlette's `{name:path}` is a plain `{name}` there.
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", operation.path)
        described = {"operationId": _identifier(operation.method, path), **_describe(operation, schemas)}
        paths.setdefault(path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "gridnode", "version": __version__, "summary": "The door of a node."},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY_SCHEMES},
        # The node's own computer needs none of them.
        "security": [{}, *({name: []} for name in _SECURITY_SCHEMES)],
    }


def _identifier(method: str, path: str) -> str:
    return re.sub(r"\W+", "_", method.lower() + path).strip("_")


def _describe(operation: Operation, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    good: dict[str, Any] = {}
    if operation.answer is not None:
        good[_JSON] = {"schema": schemas[operation.answer]}
    if operation.events:
        # The data of one event; OpenAPI 3.1 has no words for streams.
        one_of = [schemas[event] for event in operation.events]
        good[operation.stream.partition(";")[0]] = {"schema": {"oneOf": one_of}}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {
            "200": {"description": "What was asked for.", "content": good},
            "default": {
                "description": "Why there is no answer.",
                "content": {_JSON: {"schema": schemas[operation.error]}},
            },
        },
    }
    if operation.param_convertors:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in operation.param_convertors
        ]
    if operation.body is not None:
        content = {_JSON: {"schema": schemas[operation.body]}}
        described["requestBody"] = {"required": True, "content": content}
    return described
