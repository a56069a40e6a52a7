"""Lanes: who may open one, what happens when TCP does not pass, and what strangers can do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from quic_nodes import node, run
from waiting import until

from gridnode.core.addresses import Address
from gridnode.core.ids import PEER_ID_BYTES
from gridnode.errors import PeerLost
from gridnode.net import guarded_listener, lanes
from gridnode.net.carrier import PathKind
from gridnode.net.identity import Identity
from gridnode.net.lane_stream import LaneStream
from gridnode.net.lane_tls import client_context, server_context
from gridnode.net.path_router import PathRouter
from gridnode.net.quic_connection import QuicConnection
from gridnode.net.virtual_peer import DirectRoute, RelayRoute
from gridnode.wire.frames import Frame

KIND = 0x10
HELLO = Frame(KIND, body=b"hello")
NONCE_BYTES = 32
SIGNATURE_BYTES = 64


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[QuicConnection, QuicConnection]]:
    async with node() as near, node() as far:
        dialled = await near.dial(far.address, peer_id=far.peer_id, timeout_s=10)
        yield dialled, await far.accept()


async def greet(address: Address, answer: Callable[[bytes], bytes]) -> bytes:
    """Answer the greeting at `address` as a stranger; return what it says to that until it hangs up."""
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=client_context())
    try:
        writer.write(answer(await reader.readexactly(NONCE_BYTES)))
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.transport.abort()


def test_both_ends_may_open_lanes() -> None:
    async def main() -> None:
        async with pair() as (dialled, accepted):
            for opener, other in ((dialled, accepted), (accepted, dialled)):
                lane = await opener.open_lane()
                assert isinstance(lane, LaneStream)
                await lane.send(HELLO)
                far = await other.accept_stream()
                assert await far.receive() == HELLO
                assert far.connection is other

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="only there all of 127.0.0.0/8 is this computer's")
def test_a_lane_comes_from_the_address_that_the_node_listens_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """From any other one of this computer, the peer would take it for one whose end has moved."""
    monkeypatch.setattr(lanes, "CHECK_INTERVAL_S", 0.01)

    async def main() -> None:
        near_bind, far_bind = Address("127.31.73.2", 0), Address("127.31.73.3", 0)
        async with node(bind=near_bind) as near, node(bind=far_bind) as far:
            dialled = await near.dial(far.address, peer_id=far.peer_id, timeout_s=10)
            accepted = await far.accept()
            lane = await dialled.open_lane()
            assert isinstance(lane, LaneStream)
            await lane.send(HELLO)
            there = await accepted.accept_stream()
            for _ in range(20):
                await asyncio.sleep(lanes.CHECK_INTERVAL_S)  # the time of a look
                await lane.send(HELLO)
                assert await there.receive() == HELLO

    run(main())


def test_a_lane_ends_with_its_connection() -> None:
    async def main() -> None:
        async with pair() as (dialled, accepted):
            near = await dialled.open_lane()
            await near.send(HELLO)
            far = await accepted.accept_stream()
            await dialled.aclose()
            assert await far.receive() == HELLO
            with pytest.raises(PeerLost):
                await far.receive()

    run(main())


def test_without_tcp_a_stream_is_one_of_quic_and_tcp_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dials = 0

    async def blocked(*_: object, **__: object) -> None:
        nonlocal dials
        dials += 1
        raise ConnectionRefusedError("a firewall")

    async def main() -> None:
        async with pair() as (dialled, accepted):
            monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", blocked)
            for _ in range(3):
                stream = await dialled.open_lane()
                assert not isinstance(stream, LaneStream)
                await stream.send(HELLO)
                assert await (await accepted.accept_stream()).receive() == HELLO
            assert dials == 1

    run(main())


def test_a_port_that_is_taken_on_tcp_costs_lanes_only() -> None:
    async def main() -> None:
        async with node() as near, node() as far:
            # Who listens there is not a node: its TLS, if any, proves somebody else.
            await far._lanes.aclose()
            with socket.create_server(("127.0.0.1", far.address.port)):
                dialled = await near.dial(far.address, peer_id=far.peer_id, timeout_s=10)
                stream = await dialled.open_lane()
                assert not isinstance(stream, LaneStream)
                await stream.send(HELLO)
                assert await (await (await far.accept()).accept_stream()).receive() == HELLO

    run(main())


def test_somebody_else_behind_the_port_gets_nothing() -> None:
    async def main() -> None:
        async with node() as near, node() as far:
            await far._lanes.aclose()
            heard = bytearray()

            async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(bytes(NONCE_BYTES))
                heard.extend(await reader.read())
                writer.close()

            other = server_context(Identity.generate())
            async with await asyncio.start_server(pretend, "127.0.0.1", far.address.port, ssl=other):
                dialled = await near.dial(far.address, peer_id=far.peer_id, timeout_s=10)
                assert not isinstance(await dialled.open_lane(), LaneStream)
            assert heard == b""

    run(main())


def test_strangers_and_liars_are_refused() -> None:
    async def main() -> None:
        me, friend = Identity.generate(), Identity.generate()

        def signed(identity: Identity, listener: bytes) -> Callable[[bytes], bytes]:
            return lambda nonce: identity.peer_id + identity.sign(lanes._CONTEXT + listener + nonce)

        async with node(me) as far, node(friend) as near:
            await near.dial(far.address, peer_id=far.peer_id, timeout_s=10)
            connection = await far.accept()
            stranger = Identity.generate()
            answers = {
                "no QUIC connection": signed(stranger, me.peer_id),
                "another's name": lambda nonce: friend.peer_id + stranger.sign(nonce),
                "signed for another listener": signed(friend, stranger.peer_id),
                "garbage": lambda _: b"\xff" * (PEER_ID_BYTES + SIGNATURE_BYTES),
                "too much": lambda _: b"\0" * (1 << 20),
            }
            for name, answer in answers.items():
                assert await greet(far.address, answer) == b"", name
            assert connection.streams == 0
            await until(lambda: not far._lanes._open)

    run(main())


def test_a_peer_has_so_many_lanes_and_the_rest_on_quic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MAX_LANES_PER_PEER", 2)

    async def main() -> None:
        async with pair() as (dialled, accepted):
            streams = []
            for _ in range(3):
                streams.append(await dialled.open_lane())
                await streams[-1].send(HELLO)
                await (await accepted.accept_stream()).receive()
            assert [isinstance(stream, LaneStream) for stream in streams] == [True, True, False]

    run(main())


def test_no_lane_is_dialled_to_the_address_of_a_relay() -> None:
    """It is not the peer's, and what answers there on TCP is not the peer either."""

    async def main() -> None:
        async with node() as near, node() as far:
            router = PathRouter(near.endpoint, near.peer_id)
            peer = router.peer(far.peer_id)
            direct = DirectRoute(tuple(far.address))
            peer.paths.add(direct, PathKind.DIRECT)
            dialled = await near.dial(peer.address, peer_id=far.peer_id, timeout_s=10)
            with socket.create_server(("127.0.0.1", 0)) as relay:
                relay.setblocking(False)
                peer.add_relay(RelayRoute(far.peer_id, relay.getsockname()), PathKind.RELAY)
                peer.paths.remove(direct)
                assert dialled.address == Address(*relay.getsockname())
                assert not isinstance(await dialled.open_lane(), LaneStream)
                with pytest.raises(BlockingIOError):
                    relay.accept()
            router.close()

    run(main())


def test_addresses_beyond_the_local_network_have_no_lanes() -> None:
    assert lanes._is_local(Address("192.168.1.7", 1))
    assert lanes._is_local(Address("fe80::1%eth0", 1))
    assert not lanes._is_local(Address("8.8.8.8", 1))


def test_silent_strangers_hold_few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """They say nothing after TCP, not even the hello of TLS."""
    monkeypatch.setattr(guarded_listener, "MAX_STRANGERS", 3)

    async def main() -> None:
        async with node() as far:
            listener = far._lanes._listener
            assert listener is not None
            silent = [socket.create_connection(far.address) for _ in range(10)]
            for sock in silent[3:]:
                sock.setblocking(False)
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
            assert listener.strangers == 3
            for sock in silent:
                sock.close()
            await until(lambda: listener.strangers == 0)

    run(main())


def test_a_lane_does_not_count_as_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_listener, "MAX_STRANGERS", 1)

    async def main() -> None:
        async with pair() as (dialled, accepted):
            for _ in range(3):
                lane = await dialled.open_lane()
                assert isinstance(lane, LaneStream)
                await lane.send(HELLO)
                assert await (await accepted.accept_stream()).receive() == HELLO

    run(main())
