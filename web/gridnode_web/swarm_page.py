"""The page Swarm."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gridnode.control.interface import NodeControl
from gridnode_web.rendering import page


def swarm_route(control: NodeControl) -> Route:
    """Return the page at `/`."""

    async def swarm(request: Request) -> Response:
        return page(request, "swarm.html", node=control.status())

    return Route("/", swarm)
