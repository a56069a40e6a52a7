"""The live view of a node: its status as server-sent events, again whenever it changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from gridnode.control.answer_stream import KEEP_ALIVE_S
from gridnode.control.interface import NodeControl
from gridnode.control.operation import Operation
from gridnode.control.server_sent import KEEP_ALIVE
from gridnode.control.status_schema import NodeStatus

# Three pictures a second look alive; a swarm of 500 nodes changes more often than anybody can read.
MIN_INTERVAL_S = 0.33
# A browser that lost the stream comes back after this long.
RETRY_MS = 1000


class StatusFeed:
    """The events of a node for any number of readers; the status is put together once for all of them."""

    def __init__(
        self,
        control: NodeControl,
        *,
        min_interval_s: float = MIN_INTERVAL_S,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self._control = control
        self._min_interval_s = min_interval_s
        self._keep_alive_s = keep_alive_s
        self._latest = b""
        self._made_at = float("-inf")

    async def events(self, *, closing: asyncio.Event, brief: bool) -> AsyncGenerator[bytes, None]:
        """Yield the status now and after every change, and comments in between, until `closing` is set.

        Args:
            brief: Tell that the status changed, and not what it is.
        """
        ending = asyncio.create_task(closing.wait(), name="node-stops")
        change: asyncio.Task[None] | None = None
        told_at = float("-inf")
        try:
            yield b"retry: %d\n\n" % RETRY_MS
            while not closing.is_set():
                # Listen first and look then: what changes in between comes with the next event.
                change = asyncio.create_task(self._control.wait_change(), name="status-changes")
                await asyncio.sleep(0)
                yield self._event(brief)
                told_at = time.monotonic()
                while not await self._happened(change, ending):
                    yield KEEP_ALIVE
                # What changes in the meantime is part of the next event. The status is shared and may be
                # an interval old; what says only that it changed comes at once after a quiet time.
                quiet_s = time.monotonic() - told_at if brief else 0.0
                await asyncio.wait({ending}, timeout=max(0.0, self._min_interval_s - quiet_s))
        finally:
            ending.cancel()
            if change is not None:
                change.cancel()

    async def _happened(self, change: asyncio.Task[None], ending: asyncio.Task[Literal[True]]) -> bool:
        """Wait for a change or for the end; return False if neither came before it is time to say so."""
        done, _ = await asyncio.wait(
            {change, ending}, timeout=self._keep_alive_s, return_when=asyncio.FIRST_COMPLETED
        )
        return bool(done)

    def _event(self, brief: bool) -> bytes:
        if brief:
            return b"event: changed\ndata: {}\n\n"
        now = time.monotonic()
        if now - self._made_at >= self._min_interval_s:
            self._latest = b"event: status\ndata: %s\n\n" % msgspec.json.encode(self._control.status())
            self._made_at = now
        return self._latest


def make_event_routes(control: NodeControl) -> list[BaseRoute]:
    """Return `GET /api/v1/events`; `?brief=1` leaves the status out, for pages that fetch what they show."""
    feed = StatusFeed(control)

    async def events(request: Request) -> Response:
        stream = feed.events(
            closing=request.app.state.closing, brief=request.query_params.get("brief") == "1"
        )
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    return [
        Operation(
            "GET",
            "/api/v1/events",
            events,
            summary="Tell the status after every change",
            events=(NodeStatus,),
        )
    ]
