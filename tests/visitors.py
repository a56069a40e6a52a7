"""Visitors of a door over ASGI, as if from other computers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
from fake_node import FakeNode

from gridnode.control.door import create_door
from gridnode.control.door_policy import DoorPolicy

HERE, ELSEWHERE, NODE = "127.0.0.1", "192.0.2.9", "http://192.0.2.2:7337"
STATUS, RUN, EVENTS = "/api/v1/status", "/api/v1/run", "/api/v1/events"
PAGE = {"Accept": "text/html,application/xhtml+xml"}


def visitor(
    policy: DoorPolicy, *, node: FakeNode | None = None, peer: str = ELSEWHERE, url: str = NODE
) -> httpx.AsyncClient:
    """Return a client at the address `peer` of a door that it reaches as `url`."""
    door = create_door(node or FakeNode(), policy=policy)
    return httpx.AsyncClient(transport=httpx.ASGITransport(door, client=(peer, 40000)), base_url=url)


def visit(policy: DoorPolicy, act: Callable[[httpx.AsyncClient], Awaitable[None]], **how: str) -> None:
    """Run `act` with such a client."""

    async def run() -> None:
        async with visitor(policy, **how) as http:  # type: ignore[arg-type]
            await act(http)

    asyncio.run(run())


def bearer(secret: str) -> dict[str, str]:
    """Return the header that shows a key."""
    return {"Authorization": f"Bearer {secret}"}
