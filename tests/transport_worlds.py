"""Every kind of transport, for the tests of what all of them promise (`gridnode.net.transport`)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId
from gridnode.net.framed_stream import FramedStream
from gridnode.net.identity import Identity
from gridnode.net.memory import LinkQuality, MemoryNetwork
from gridnode.net.quic import QuicTransport
from gridnode.net.quic_connection import QuicConnection
from gridnode.net.quic_settings import QuicSettings
from gridnode.net.transport import Connection, Stream, Transport
from gridnode.wire.frames import Frame

KIND = 0x10


TIMEOUT_S = 10.0


LOOPBACK = Address("127.0.0.1", 0)


class World(Protocol):
    """A kind of transport under test."""

    def make(self) -> Transport:
        """Return a new node."""

    def kill(self, transport: Transport) -> None:
        """Make a node vanish without a word."""

    def nowhere(self) -> Address:
        """Return an address where nobody listens."""


class MemoryWorld:
    """Nodes in memory."""

    def __init__(self, quality: LinkQuality | None = None) -> None:
        self._network = MemoryNetwork(seed=1, quality=quality)

    def make(self) -> Transport:
        return self._network.transport(Identity.generate().peer_id)

    def kill(self, transport: Transport) -> None:
        self._network.kill(transport.peer_id)

    def nowhere(self) -> Address:
        return Address("192.0.2.99", 1)


class LossyMemoryWorld(MemoryWorld):
    """The same, where packets take their time and get lost."""

    def __init__(self) -> None:
        super().__init__(LinkQuality(delay_s=0.002, jitter_s=0.003, loss=0.05, resend_s=0.01))


class QuicWorld:
    """Nodes on loopback."""

    settings = QuicSettings(busy_ping_interval_s=0.2, busy_silence_limit_s=0.6, idle_timeout_s=5.0)

    def make(self) -> QuicTransport:
        return QuicTransport(Identity.generate(), LOOPBACK, settings=self.settings)

    def kill(self, transport: Transport) -> None:
        assert isinstance(transport, QuicTransport)
        transport.endpoint.vanish()

    def nowhere(self) -> Address:
        return Address("127.0.0.1", 9)


class SmallDatagramQuicWorld(QuicWorld):
    """The same with the datagrams that pass everywhere."""

    settings = QuicSettings(
        busy_ping_interval_s=0.2, busy_silence_limit_s=0.6, idle_timeout_s=5.0, largest_datagram_bytes=1200
    )


class LanesOnly(QuicTransport):
    """Every stream is a lane."""

    async def dial(self, address: Address, *, peer_id: PeerId | None, timeout_s: float) -> QuicConnection:
        return self._with_lanes(await super().dial(address, peer_id=peer_id, timeout_s=timeout_s))

    async def accept(self) -> QuicConnection:
        return self._with_lanes(await super().accept())

    def _with_lanes(self, connection: QuicConnection) -> QuicConnection:
        async def open_lane() -> FramedStream:
            connection._raise_if_gone()
            lane = await self.endpoint.open_lane(connection)
            assert lane is not None
            return lane

        connection.open_stream = open_lane  # type: ignore[method-assign,assignment]
        return connection


class LaneWorld(QuicWorld):
    """The same, where every stream is a lane."""

    def make(self) -> QuicTransport:
        return LanesOnly(Identity.generate(), LOOPBACK, settings=self.settings)


WORLDS: dict[str, Callable[[], World]] = {
    "memory": MemoryWorld,
    "memory-lossy": LossyMemoryWorld,
    "quic": QuicWorld,
    "quic-1200": SmallDatagramQuicWorld,
    "lane": LaneWorld,
}


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` and see that it leaves no task behind."""

    async def checked() -> None:
        async with asyncio.timeout(60):
            await main
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []

    asyncio.run(checked())
    gc.collect()  # sockets that nobody closed warn now, and warnings are errors


@asynccontextmanager
async def pair(world: World) -> AsyncIterator[tuple[Connection, Connection]]:
    """Two nodes with a connection: the end that dialled, the end that accepted."""
    near, far = world.make(), world.make()
    try:
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(far.accept())
            dialled = await near.dial(far.address, peer_id=far.peer_id, timeout_s=TIMEOUT_S)
        yield dialled, accepting.result()
    finally:
        await near.aclose()
        await far.aclose()
        for transport in (near, far):
            if isinstance(transport, QuicTransport):
                assert transport.endpoint.connections == ()
                assert transport.endpoint.routes == 0


@asynccontextmanager
async def stream_pair(world: World) -> AsyncIterator[tuple[Stream, Stream]]:
    """A stream that has carried one frame: the end that opened, the end that accepted."""
    async with pair(world) as (dialled, accepted):
        near = await dialled.open_stream()
        await near.send(Frame(KIND, body=b"hello"))
        far = await accepted.accept_stream()
        assert await far.receive() == Frame(KIND, body=b"hello")
        yield near, far


def open_streams(connection: Connection) -> int:
    """Return how many streams are in the tables of `connection`."""
    count = connection.streams  # type: ignore[attr-defined]
    assert isinstance(count, int)
    return count
