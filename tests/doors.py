"""A door over real HTTP on loopback, for tests of what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from fake_node import FakeNode
from waiting import until

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


async def ask_and_leave(http: httpx.AsyncClient, node: FakeNode, path: str, body: object) -> None:
    """Ask the door of `node`, which hangs, hang up once it answers, and wait until it does no more."""
    asking = asyncio.create_task(http.post(path, json=body))
    await until(lambda: node.num_running == 1)
    asking.cancel()
    await asyncio.wait([asking])
    await until(lambda: node.num_running == 0)
