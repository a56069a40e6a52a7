"""Relays on loopback, and transports that register with them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from nodes import LOOPBACK

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId
from gridnode.core.relays import Relay
from gridnode.net.identity import Identity
from gridnode.net.path_router import PathRouter
from gridnode.net.quic import QuicTransport
from gridnode.net.relay_limits import RelayLimits
from gridnode.net.relay_link import RelayLink
from gridnode.net.relay_server import RelayServer
from gridnode.net.relay_service import RelayService
from gridnode.net.transport import Connection


def run(main: Callable[[], Awaitable[None]], timeout_s: float = 60.0) -> None:
    """Run `main`, for so long at the most."""

    async def limited() -> None:
        async with asyncio.timeout(timeout_s):
            await main()

    asyncio.run(limited())


@contextlib.asynccontextmanager
async def relaying(
    limits: RelayLimits | None = None, *, identity: Identity | None = None, listen: Address = LOOPBACK
) -> AsyncIterator[tuple[RelayServer, Address]]:
    """Run a relay."""
    service = RelayService(identity or Identity.generate(), listen, limits or RelayLimits())
    task = asyncio.create_task(service.run())
    try:
        yield service.server, service.address
    finally:
        task.cancel()
        await asyncio.wait([task])


class Client:
    """A transport that is registered with relays."""

    def __init__(self) -> None:
        self.transport = QuicTransport(Identity.generate(), LOOPBACK)
        self.router = PathRouter(self.transport.endpoint, self.transport.peer_id)
        self.links: list[RelayLink] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.members: list[bytes] = []
        self.swarms: tuple[str, ...] = ()

    async def register(
        self, address: Address, *, swarm: str = "s", peer_id: PeerId | None = None
    ) -> RelayLink:
        self.swarms = (swarm,)
        link = RelayLink(
            Relay(address.host, address.port, peer_id),
            self.transport,
            self.router,
            tags=lambda: self.swarms,
            on_members=lambda _, peers: self.members.extend(peers),
            on_change=lambda: None,
            is_alone=lambda: True,
        )
        self.links.append(link)
        self.tasks.append(asyncio.create_task(link.run()))
        await link.wait_settled()
        return link

    def lose_udp(self) -> None:
        """Let no UDP out any more."""
        self.transport.endpoint._socket.send = lambda datagrams: None  # type: ignore[method-assign]

    async def dial(self, other: Client) -> Connection:
        peer = self.router.peer(other.transport.peer_id)
        for route, kind in self.router.relays:
            peer.add_relay(route, kind)
        return await self.transport.dial(peer.address, peer_id=other.transport.peer_id, timeout_s=5)

    async def aclose(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.router.close()
        await self.transport.aclose()


@contextlib.asynccontextmanager
async def clients(number: int) -> AsyncIterator[list[Client]]:
    """Make transports that register with relays; close them at the end."""
    made = [Client() for _ in range(number)]
    try:
        yield made
    finally:
        for each in made:
            await each.aclose()
