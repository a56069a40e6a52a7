"""The page Activity: what happened in the swarm, newest first."""

from __future__ import annotations

from typing import get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gridnode.control.history import ActivityKind
from gridnode.control.interface import NodeControl
from gridnode_web.rendering import page

ROWS = 60
KINDS: tuple[str, ...] = get_args(ActivityKind)


def activity_route(control: NodeControl) -> Route:
    """Return the page at `/activity`; `?kind=` leaves one kind, `?before=` goes back in time."""

    async def activity(request: Request) -> Response:
        asked = request.query_params
        kind = asked.get("kind", "")
        before = asked.get("before", "")
        rows = await control.history.activity(
            limit=ROWS,
            kind=kind if kind in KINDS else "",
            before=int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None,
        )
        return page(
            request,
            "activity.html",
            rows=rows,
            kind=kind,
            kinds=KINDS,
            is_newest=not before,
            older=rows[-1].number if len(rows) == ROWS else None,
        )

    return Route("/activity", activity)
