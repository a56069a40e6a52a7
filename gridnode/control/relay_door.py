"""What `gridnode relay --metrics` answers: figures for Prometheus, and that the process lives."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gridnode.control.door_response import json_response
from gridnode.control.door_server import bind_tcp, serving
from gridnode.control.relay_metrics import render_relay_metrics
from gridnode.core.addresses import Address
from gridnode.net.relay_counters import RelayCounters


@contextlib.asynccontextmanager
async def serve_relay_door(counters: RelayCounters, address: Address) -> AsyncIterator[Address]:
    """Answer `/metrics` and `/health` at `address` inside the block; yield it with its real port.

    Nobody needs a key: the figures name no node and no swarm.

    Raises:
        AddressInUse: another process holds the port.
        BadInput: this machine does not have the address.
    """

    async def metrics(request: Request) -> Response:
        headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"}
        return Response(render_relay_metrics(counters), headers=headers)

    async def health(request: Request) -> Response:
        return json_response({"healthy": True})

    app = Starlette(routes=[Route("/metrics", metrics), Route("/health", health)])
    with bind_tcp(address, option="--metrics") as sock:
        async with serving(app, [sock]):
            yield Address(address.host, sock.getsockname()[1])
