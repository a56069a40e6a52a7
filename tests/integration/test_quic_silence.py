"""Silence, and what QUIC concludes from it."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest
from quic_nodes import TIMEOUT_S, node, run
from waiting import until

from gridnode.core.addresses import Address
from gridnode.errors import PeerLost
from gridnode.net.carrier import PathKind
from gridnode.net.path_router import PathRouter
from gridnode.net.quic_settings import QuicSettings
from gridnode.net.udp import bind_udp
from gridnode.net.virtual_peer import DirectRoute
from gridnode.wire.frames import Frame


def test_silence_without_streams_is_bridged_by_pings() -> None:
    async def main() -> None:
        settings = QuicSettings(idle_timeout_s=2.5, idle_ping_interval_s=0.1)
        async with node(settings=settings) as server, node(settings=settings) as client:
            dialled = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4):
                    await dialled.wait_closed()

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="reading ICMP errors is Linux's")
def test_a_peer_whose_process_died_is_noticed_by_its_closed_port() -> None:
    async def main() -> None:
        patient = QuicSettings(busy_silence_limit_s=1000.0, idle_timeout_s=1000.0)
        async with node(settings=patient) as server, node(settings=patient) as client:
            dialled = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            stream = await dialled.open_stream()
            await stream.send(Frame(0x10))
            server.endpoint.vanish()
            await stream.send(Frame(0x10))
            with pytest.raises(PeerLost, match="nobody answers at"):
                await stream.receive()

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="reading ICMP errors is Linux's")
def test_dialling_a_closed_port_fails_before_its_timeout() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        async with node() as client:
            with pytest.raises(PeerLost, match="nobody answers at"):
                await client.dial(Address("127.0.0.1", port), peer_id=None, timeout_s=1000.0)

    run(main())


def test_a_forged_hint_does_not_end_a_connection_that_answers() -> None:
    async def main() -> None:
        settings = QuicSettings(suspicion_s=0.2)
        async with node(settings=settings) as server, node(settings=settings) as client:
            dialled = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            dialled.suspect()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await dialled.wait_closed()

    run(main())


def test_a_connection_that_a_restarted_peer_forgot_ends_although_the_way_to_the_peer_works() -> None:
    async def main() -> None:
        patient = QuicSettings(busy_silence_limit_s=1000.0, idle_timeout_s=1000.0)
        async with node(settings=patient) as near, node(settings=patient) as far:
            here, there = PathRouter(near.endpoint, near.peer_id), PathRouter(far.endpoint, far.peer_id)
            ours, theirs = here.peer(far.peer_id), there.peer(near.peer_id)
            ours.paths.add(DirectRoute(tuple(far.address)), PathKind.DIRECT)
            old = await near.dial(ours.address, peer_id=far.peer_id, timeout_s=TIMEOUT_S)
            (await far.accept()).abandon(PeerLost("another process began here"))
            theirs.accept_offer(ours.paths.secret, [])
            ours.accept_offer(theirs.paths.secret, [])
            ours.punch([tuple(far.address)])
            await until(lambda: ours.paths.has_direct)
            new = await near.dial(ours.address, peer_id=far.peer_id, timeout_s=TIMEOUT_S)
            for connection in (old, new):
                connection.suspect(patience_s=0.5)
            await until(lambda: old.is_closed)
            await new.ping()
            here.close()
            there.close()

    run(main())


def test_packets_from_elsewhere_do_not_allay_a_suspicion() -> None:
    """A server that moved goes on sending, but QUIC clients do not take packets from its new address."""

    async def main() -> None:
        settings = QuicSettings(suspicion_s=0.2, busy_silence_limit_s=1000.0)
        async with node(settings=settings) as server, node(settings=settings) as client:
            dialled = await client.dial(server.address, peer_id=None, timeout_s=TIMEOUT_S)
            elsewhere = bind_udp(Address("127.0.0.1", 0))
            server.endpoint.vanish()
            connection_id = dialled.quic.host_cid
            dialled.suspect()
            packet = bytes([0x40]) + connection_id + bytes(40)
            async with asyncio.timeout(TIMEOUT_S):
                while not dialled.is_closed:
                    elsewhere.sendto(packet, (client.address.host, client.address.port))
                    await asyncio.sleep(0.01)
            elsewhere.close()

    run(main())
