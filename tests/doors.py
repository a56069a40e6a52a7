"""A door over real HTTP on loopback, for tests of what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from fake_node import FakeNode

from gridnode.control.door_server import serve_door
from gridnode.core.addresses import Address

ANY_PORT = Address("127.0.0.1", 0)


@asynccontextmanager
async def door(node: FakeNode) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the door of `node`; yield a client of it."""
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serve_door(node, ANY_PORT))
        http = httpx.AsyncClient(base_url=f"http://{address}", trust_env=False)
        yield await stack.enter_async_context(http)


def with_door(node: FakeNode, act: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run `act` with a client of the door of `node`."""

    async def run() -> None:
        async with door(node) as http:
            await act(http)

    asyncio.run(run())
