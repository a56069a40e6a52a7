"""Datagrams grow where no relay is on their way, and are small at once when one may be."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from quic_nodes import LOOPBACK, TIMEOUT_S, node, run
from waiting import until

from gridnode.net.carrier import PathKind
from gridnode.net.path_router import PathRouter
from gridnode.net.quic_connection import QuicConnection
from gridnode.net.quic_settings import QuicSettings
from gridnode.net.transport import Stream
from gridnode.net.virtual_peer import DirectRoute, RelayRoute, VirtualPeer
from gridnode.wire.frames import Frame
from gridnode.wire.relay_packets import OVERHEAD_BYTES

KIND = 0x10
BODY = bytes(100_000)


async def carry(near: QuicConnection, far: QuicConnection) -> None:
    """Let one large frame travel."""
    stream: Stream = await near.open_stream()
    await stream.send(Frame(KIND, body=BODY))
    frame = await (await far.accept_stream()).receive()
    assert frame is not None
    assert frame.body == BODY
    stream.reset()


def test_datagrams_grow_to_what_passes_on_loopback() -> None:
    async def main() -> None:
        async with node() as server, node() as client:
            dialled = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            accepted = await server.accept()
            for end in (dialled, accepted):
                await until(lambda end=end: end.quic.max_datagram_bytes == 16_000)
            await carry(dialled, accepted)

    run(main())


def test_a_largest_size_is_not_exceeded() -> None:
    async def main() -> None:
        settings = QuicSettings(largest_datagram_bytes=1400)
        async with node(settings=settings) as server, node(settings=settings) as client:
            dialled = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            await until(lambda: dialled.quic.max_datagram_bytes == 1350)
            await carry(dialled, await server.accept())
            assert dialled.quic.max_datagram_bytes == 1350

    run(main())


def test_the_word_of_a_router_makes_datagrams_smaller_but_never_too_small() -> None:
    async def main() -> None:
        async with node() as server, node() as client:
            dialled = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            accepted = await server.accept()
            await until(lambda: dialled.quic.max_datagram_bytes == 16_000)
            dialled.shrink_datagrams(1400)
            assert dialled.quic.max_datagram_bytes == 1200
            await carry(dialled, accepted)
            await until(lambda: dialled.quic.max_datagram_bytes == 1350)
            dialled.shrink_datagrams(68)
            await carry(dialled, accepted)
            assert dialled.quic.max_datagram_bytes == 1200

    run(main())


def test_large_datagrams_that_vanish_without_a_word_are_given_up_while_small_ones_pass() -> None:
    async def main() -> None:
        async with node() as server, node() as client:
            dialled = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            accepted = await server.accept()
            await until(lambda: dialled.quic.max_datagram_bytes == 16_000)
            passing = client.endpoint._socket.send

            def send(datagrams: list[tuple[bytes, tuple[str, int]]]) -> OSError | None:
                return passing([each for each in datagrams if len(each[0]) <= 1400])

            client.endpoint._socket.send = send  # type: ignore[method-assign]
            async with asyncio.TaskGroup() as group:
                task = group.create_task(carry(dialled, accepted))
                while not task.done():
                    await dialled.ping()  # is answered, so that nothing times out
            await until(lambda: dialled.quic.max_datagram_bytes <= 1400)

    run(main())


@asynccontextmanager
async def virtual_pair() -> AsyncIterator[tuple[QuicConnection, QuicConnection, VirtualPeer, socket.socket]]:
    """Yield both ends of a connection whose dialler has a direct way, and a relay that forwards nothing."""
    async with node() as near, node() as far:
        here, there = PathRouter(near.endpoint, near.peer_id), PathRouter(far.endpoint, far.peer_id)
        ours, theirs = here.peer(far.peer_id), there.peer(near.peer_id)
        relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        relay.bind(tuple(LOOPBACK))
        relay.setblocking(False)
        try:
            ours.paths.add(DirectRoute(tuple(far.address)), PathKind.DIRECT)
            dialled = await near.dial(ours.address, peer_id=far.peer_id, timeout_s=TIMEOUT_S)
            accepted = await far.accept()
            ours.add_relay(RelayRoute(far.peer_id, relay.getsockname()), PathKind.RELAY)
            theirs.accept_offer(ours.paths.secret, [])
            ours.accept_offer(theirs.paths.secret, [])
            ours.punch([tuple(far.address)])
            yield dialled, accepted, ours, relay
        finally:
            relay.close()
            here.close()
            there.close()


def test_datagrams_grow_on_a_direct_way_to_a_virtual_address() -> None:
    async def main() -> None:
        async with virtual_pair() as (dialled, accepted, _, _):
            await until(lambda: dialled.path is PathKind.DIRECT and dialled.quic.max_datagram_bytes == 16_000)
            await carry(dialled, accepted)

    run(main())


def test_relays_get_no_large_datagrams_while_the_direct_way_is_in_doubt() -> None:
    async def main() -> None:
        async with virtual_pair() as (dialled, accepted, peer, relay):
            await until(lambda: dialled.quic.max_datagram_bytes == 16_000)
            peer.doubt()
            await carry(dialled, accepted)
            sizes = []
            while True:
                try:
                    sizes.append(len(relay.recv(65_535)))
                except BlockingIOError:
                    break
            assert sizes
            assert max(sizes) <= 1200 + OVERHEAD_BYTES
            await until(lambda: not peer.paths.is_in_doubt)
            await carry(dialled, accepted)
            await until(lambda: dialled.quic.max_datagram_bytes == 16_000)

    run(main())
