"""Links over a network in memory that let everybody in: for what nodes say to each other behind that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId
from gridnode.net.memory import MemoryNetwork
from gridnode.net.transport import Connection, Stream
from gridnode.node.links import ConnectionHandler, Links, StreamHandler


async def _nothing(_: Stream | Connection) -> None:
    pass


@dataclass(frozen=True)
class Plain:
    """Links, and where they are reached."""

    links: Links
    address: Address

    @property
    def peer_id(self) -> PeerId:
        return self.links.peer_id


@asynccontextmanager
async def plain_links(
    network: MemoryNetwork,
    peer_id: PeerId,
    *,
    on_stream: StreamHandler = _nothing,
    admit: ConnectionHandler = _nothing,
) -> AsyncIterator[Plain]:
    """Run links for as long as the context lasts."""
    transport = network.transport(peer_id)
    links = Links(peer_id, on_stream=on_stream, on_connection=_nothing, admit=admit)
    running = asyncio.create_task(links.run([transport]))
    await asyncio.sleep(0)  # it begins
    try:
        yield Plain(links, transport.address)
    finally:
        running.cancel()
        await asyncio.wait([running])
