"""The door: the HTTP application of a node."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from gridnode.control.answer_routes import make_answer_routes
from gridnode.control.anthropic.routes import make_anthropic_routes
from gridnode.control.door_errors import ErrorBody, describe_error
from gridnode.control.door_policy import THIS_COMPUTER, DoorPolicy
from gridnode.control.door_request import BodyTooLarge
from gridnode.control.doorkeeper import Doorkeeper
from gridnode.control.guard import guards
from gridnode.control.history_routes import make_history_routes
from gridnode.control.interface import NodeControl
from gridnode.control.login_page import login_routes
from gridnode.control.ollama.routes import make_ollama_routes
from gridnode.control.openai.routes import make_openai_routes
from gridnode.control.operation import description_route
from gridnode.control.pause_routes import make_pause_routes
from gridnode.control.petals.routes import make_petals_routes
from gridnode.control.refusals import refuse_at
from gridnode.control.status_events import make_event_routes
from gridnode.control.status_routes import make_status_routes
from gridnode.control.swarm_routes import make_swarm_routes
from gridnode.errors import ErrorCode, GridError


def create_door(
    control: NodeControl, *, pages: Sequence[BaseRoute] = (), policy: DoorPolicy = THIS_COMPUTER
) -> Starlette:
    """Build the HTTP application of the node behind `control`.

    Set `app.state.closing` (an `asyncio.Event`) to end the answers that run.

    Args:
        pages: Routes for people, beside those for programs.
        policy: Who may use it.
    """
    doorkeeper = Doorkeeper(policy)
    app = Starlette(
        routes=[*make_routes(control), *login_routes(doorkeeper), *pages],
        middleware=guards(policy, doorkeeper),
        exception_handlers={HTTPException: _http_error, GridError: _grid_error, Exception: _internal_error},
    )
    app.state.closing = asyncio.Event()
    return app


def make_routes(control: NodeControl) -> list[BaseRoute]:
    """Return everything that the door answers to."""
    return [
        *make_status_routes(control),
        *make_answer_routes(control),
        *make_openai_routes(control),
        *make_anthropic_routes(control),
        *make_petals_routes(control),
        *make_event_routes(control),
        *make_swarm_routes(control),
        *make_history_routes(control),
        *make_ollama_routes(control),
        *make_pause_routes(control),
        description_route(),
    ]


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    text = f"{request.method} {request.url.path[:200]}: {exc.detail.lower()}"
    body = ErrorBody(code=ErrorCode.BAD_INPUT, message=text)
    response = refuse_at(request.url.path, body, status=exc.status_code)
    response.headers.update(exc.headers or {})  # 405 names the methods that are allowed
    return response


async def _grid_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, GridError)
    status = 413 if isinstance(exc, BodyTooLarge) else None
    return refuse_at(request.url.path, describe_error(exc), status=status)


async def _internal_error(request: Request, exc: Exception) -> Response:
    # Starlette raises the exception again behind this answer, and the server logs it.
    body = ErrorBody(code=ErrorCode.INTERNAL, message="internal error; the node's log says more")
    return refuse_at(request.url.path, body)
