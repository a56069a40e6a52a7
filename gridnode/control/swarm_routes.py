"""Routes about the swarm for programs: its state, whom this node reaches, figures for Prometheus."""

from __future__ import annotations

import time

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from gridnode.control.door_response import json_response
from gridnode.control.interface import NodeControl
from gridnode.control.metrics import render_metrics
from gridnode.control.operation import Operation
from gridnode.control.state_report import StateReport, report_state
from gridnode.control.status_schema import Reachable
from gridnode.errors import GridError


def make_swarm_routes(control: NodeControl) -> list[BaseRoute]:
    """Return the routes."""

    async def state(request: Request) -> Response:
        return json_response(report_state(control.status(), now=time.time()))

    async def is_reachable(request: Request) -> Response:
        peer_id = request.path_params["peer_id"]
        your_ip = request.client.host if request.client else None
        try:
            rtt_s = await control.reach(peer_id)
        except GridError as exc:
            return json_response(Reachable(success=False, message=str(exc), your_ip=your_ip))
        return json_response(Reachable(success=True, your_ip=your_ip, rtt_s=rtt_s))

    async def metrics(request: Request) -> Response:
        headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"}
        return Response(render_metrics(control), headers=headers)

    return [
        Operation("GET", "/api/v1/state", state, summary="Tell the state as Petals does", answer=StateReport),
        Operation(
            "GET",
            "/api/v1/is_reachable/{peer_id}",
            is_reachable,
            summary="Tell whether a node answers",
            answer=Reachable,
        ),
        Operation(
            "GET",
            "/metrics",
            metrics,
            summary="Tell figures to Prometheus",
            events=(str,),
            stream=CONTENT_TYPE_PLAIN_0_0_4,
        ),
    ]
