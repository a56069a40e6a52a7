"""Pausing a node and letting it go on, at its door."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from gridnode.control.door_request import decode_request, read_body
from gridnode.control.door_response import json_response
from gridnode.control.interface import NodeControl
from gridnode.control.operation import Operation
from gridnode.control.status_schema import NodeStatus, PauseRequest


def make_pause_routes(control: NodeControl) -> list[BaseRoute]:
    """Return the routes that stop and start serving blocks; both answer with the new status."""

    async def pause(request: Request) -> Response:
        control.pause(decode_request(await read_body(request) or b"{}", PauseRequest))
        return json_response(control.status())

    async def resume(request: Request) -> Response:
        control.resume()
        return json_response(control.status())

    return [
        Operation(
            "POST",
            "/api/v1/pause",
            pause,
            summary="Serve no blocks for a while",
            body=PauseRequest,
            answer=NodeStatus,
        ),
        Operation("POST", "/api/v1/resume", resume, summary="Serve blocks again", answer=NodeStatus),
    ]
