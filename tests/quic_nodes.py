"""Nodes with nothing but their QUIC transport, on loopback."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from gridnode.core.addresses import Address
from gridnode.net.identity import Identity
from gridnode.net.quic import QuicTransport

LOOPBACK = Address("127.0.0.1", 0)
TIMEOUT_S = 10.0


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` in limited time, and see that no socket is left open."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await main

    asyncio.run(limited())
    gc.collect()  # sockets that nobody closed warn now, and warnings are errors


@asynccontextmanager
async def node(
    identity: Identity | None = None, *, bind: Address = LOOPBACK, **options: Any
) -> AsyncIterator[QuicTransport]:
    """Yield a transport; it must leave nothing in its tables when it is closed."""
    transport = QuicTransport(identity or Identity.generate(), bind, **options)
    try:
        yield transport
    finally:
        await transport.aclose()
        assert transport.endpoint.connections == ()
        assert transport.endpoint.routes == 0
