"""Routes about the past of the swarm for programs: what happened, figures of a day, who helped."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from gridnode.control.door_response import json_response
from gridnode.control.history import Activity, Sample, Work
from gridnode.control.interface import NodeControl
from gridnode.control.operation import Operation
from gridnode.errors import BadInput


def make_history_routes(control: NodeControl) -> list[BaseRoute]:
    """Return the routes."""

    async def activity(request: Request) -> Response:
        asked = request.query_params
        try:
            before = int(asked["before"]) if "before" in asked else None
            limit = int(asked.get("limit", 50))
        except ValueError as exc:
            raise BadInput("before and limit are whole numbers") from exc
        return json_response(
            await control.history.activity(
                before=before, limit=limit, peer_id=asked.get("peer_id", ""), kind=asked.get("kind", "")
            )
        )

    async def samples(request: Request) -> Response:
        return json_response(await control.history.samples(request.path_params["peer_id"]))

    async def contributors(request: Request) -> Response:
        return json_response(await control.history.work())

    return [
        Operation(
            "GET", "/api/v1/activity", activity, summary="Tell what happened", answer=tuple[Activity, ...]
        ),
        Operation(
            "GET",
            "/api/v1/samples/{peer_id}",
            samples,
            summary="Tell the last 24 hours of a node",
            answer=tuple[Sample, ...],
        ),
        Operation(
            "GET",
            "/api/v1/contributors",
            contributors,
            summary="Tell who helped",
            answer=tuple[Work, ...],
        ),
    ]
