"""Routes about the node for programs: that it lives, whether it works, what it does."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from gridnode import __version__
from gridnode.control.door_response import json_response
from gridnode.control.interface import NodeControl
from gridnode.control.operation import Operation
from gridnode.control.readiness import Readiness, readiness
from gridnode.control.status_schema import NodeStatus


def make_status_routes(control: NodeControl) -> list[BaseRoute]:
    """Return the routes."""

    async def health(request: Request) -> Response:
        return json_response({"healthy": True})

    async def ready(request: Request) -> Response:
        found = readiness(control.status())
        return json_response(found, status=200 if found.ready else 503)

    async def version(request: Request) -> Response:
        return json_response({"version": __version__})

    async def status(request: Request) -> Response:
        return json_response(control.status())

    return [
        Operation("GET", "/health", health, summary="Tell that the process lives", answer=dict[str, bool]),
        Operation("GET", "/ready", ready, summary="Tell whether the node does its work", answer=Readiness),
        Operation("GET", "/api/v1/version", version, summary="Tell the version", answer=dict[str, str]),
        Operation("GET", "/api/v1/status", status, summary="Tell what the node does", answer=NodeStatus),
    ]
