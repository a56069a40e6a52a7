"""Transports that reach each other through relays, on loopback."""

from __future__ import annotations

import asyncio

import pytest
from nodes import LOOPBACK
from relay_clients import clients, relaying, run
from waiting import until

from gridnode.core.addresses import Address
from gridnode.errors import NoCapacity, PeerLost
from gridnode.net.aioquic_private import RELAY_WINDOW_BYTES
from gridnode.net.carrier import PathKind
from gridnode.net.identity import Identity
from gridnode.net.quic import QuicTransport
from gridnode.net.quic_driver import ALPN, RELAY_ALPN
from gridnode.net.relay_limits import RelayLimits
from gridnode.node.links import Links
from gridnode.wire.frames import Frame


def test_a_relay_names_members_of_the_same_swarm_only_and_says_where_it_sees_a_node() -> None:
    async def main() -> None:
        async with relaying() as (server, address), clients(3) as (a, b, c):
            await a.register(address)
            await c.register(address, swarm="other")
            link = await b.register(address)
            await until(lambda: b.members and c.links[0].observed)
            assert set(b.members) == {a.transport.peer_id}
            assert not c.members
            await until(lambda: link.observed == b.transport.address)
            assert server.counters.nodes == server.counters.udp_nodes == 3
        assert server.counters.nodes == 0

    run(main)


def test_members_meet_under_both_names_while_the_key_of_their_swarm_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gridnode.net.relay_link.FIND_INTERVAL_S", 0.05)

    async def main() -> None:
        async with relaying() as (server, address), clients(3) as (a, old, new):
            await a.register(address, swarm="old")
            a.swarms = ("new", "old")
            await old.register(address, swarm="old")
            await new.register(address, swarm="new")
            await until(lambda: old.members and new.members)
            assert set(old.members) == set(new.members) == {a.transport.peer_id}
            assert server.counters.registrations == 3, "no way was lost for it"

    run(main)


def test_a_stream_passes_a_relay_that_cannot_read_it() -> None:
    async def main() -> None:
        async with relaying() as (server, address), clients(2) as (a, b):
            await a.register(address)
            await b.register(address)
            near = await a.dial(b)
            far = await b.transport.accept()
            assert far.peer_id == a.transport.peer_id
            assert near.path is far.path is PathKind.RELAY
            assert near.address == far.address == address
            stream = await near.open_stream()
            data = bytes(range(256)) * 1000
            await stream.send(Frame(0x10, {}, data))
            echo = await far.accept_stream()
            received = await echo.receive()
            assert received is not None
            assert bytes(received.body) == data
            assert server.counters.udp_bytes > len(data)
            assert server.counters.dropped == 0

    run(main)


def test_who_is_not_registered_gets_nothing_forwarded_and_reaches_nobody() -> None:
    async def main() -> None:
        async with relaying() as (server, address), clients(2) as (a, b):
            await a.register(address)
            with pytest.raises(PeerLost):
                await a.transport.dial(
                    a.router.peer(b.transport.peer_id).address, peer_id=b.transport.peer_id, timeout_s=0.3
                )
            peer = a.router.peer(b.transport.peer_id)
            for route, kind in a.router.relays:
                peer.add_relay(route, kind)
            with pytest.raises(PeerLost):
                await a.transport.dial(peer.address, peer_id=b.transport.peer_id, timeout_s=0.5)
            assert server.counters.dropped_absent
            assert not peer.paths.paths(), "the relay has said that nobody is there"
            stranger = QuicTransport(Identity.generate(), LOOPBACK)
            stranger.endpoint.send_raw(b"\x0eD" + b"t" * 8 + b"payload", tuple(address))
            await until(lambda: server.counters.dropped_stranger)
            await stranger.aclose()

    run(main)


def test_a_relay_with_its_number_of_nodes_refuses_more_and_says_so() -> None:
    async def main() -> None:
        async with relaying(RelayLimits(nodes=1)) as (server, address), clients(2) as (a, b):
            await a.register(address)
            link = await b.register(address)
            assert link.route is None
            assert "has its 1 nodes" in link.problem
            assert server.counters.refused_nodes >= 1

    run(main)


def test_a_connection_to_a_relay_has_room_for_a_registration_only() -> None:
    async def main() -> None:
        relay, node = (
            QuicTransport(Identity.generate(), LOOPBACK, protocols=(protocol,), has_lanes=False)
            for protocol in (RELAY_ALPN, ALPN)
        )
        try:
            dialled = await node.dial_relay(relay.address, peer_id=None, timeout_s=5)
            accepted = await relay.accept_relay_client()
            assert dialled.quic._remote_max_data == RELAY_WINDOW_BYTES
            stream = await dialled.open_stream()
            with pytest.raises(NoCapacity):
                await dialled.open_stream()
            with pytest.raises(NoCapacity):
                await accepted.open_stream()
            await stream.send(Frame(0x10, {}, bytes(2 * RELAY_WINDOW_BYTES)))
            received = await (await accepted.accept_stream()).receive()
            assert received is not None
            assert len(received.body) == 2 * RELAY_WINDOW_BYTES, "the window moves on"
        finally:
            await node.aclose()
            await relay.aclose()

    run(main)


def test_a_connection_outlives_the_relay_that_it_began_on() -> None:
    async def main() -> None:
        async with relaying() as (_, second), clients(2) as (a, b):
            async with relaying() as (_, first):
                for each in (a, b):
                    await each.register(first)
                    await each.register(second)
                near = await a.dial(b)
                far = await b.transport.accept()
                stream = await near.open_stream()
                await stream.send(Frame(0x10, {"n": 1}))
                other = await far.accept_stream()
                assert (await other.receive() or Frame(0)).header == {"n": 1}
            await until(lambda: a.links[0].route is None and b.links[0].route is None)
            await stream.send(Frame(0x10, {"n": 2}))
            assert (await other.receive() or Frame(0)).header == {"n": 2}

    run(main)


def test_a_connection_outlives_a_restart_of_its_only_relay() -> None:
    async def main() -> None:
        identity = Identity.generate()
        async with clients(2) as (a, b):
            async with relaying(identity=identity) as (_, address):
                for each in (a, b):
                    await each.register(address)
                near = await a.dial(b)
                far = await b.transport.accept()
                stream = await near.open_stream()
                await stream.send(Frame(0x10, {"n": 1}))
                other = await far.accept_stream()
                assert (await other.receive() or Frame(0)).header == {"n": 1}
            await until(lambda: a.links[0].route is None and b.links[0].route is None)
            async with relaying(identity=identity, listen=address):
                await stream.send(Frame(0x10, {"n": 2}))
                assert (await other.receive() or Frame(0)).header == {"n": 2}

    run(main)


def test_what_a_node_sends_above_its_rate_is_dropped_and_the_rest_arrives() -> None:
    async def main() -> None:
        async with relaying(RelayLimits(node_bytes_per_s=100_000)) as (server, address), clients(2) as (a, b):
            for each in (a, b):
                await each.register(address)
            near = await a.dial(b)
            far = await b.transport.accept()
            stream = await near.open_stream()
            data = bytes(400_000)  # the burst, and as much again
            await stream.send(Frame(0x10, {}, data))
            received = await (await far.accept_stream()).receive()
            assert received is not None
            assert len(received.body) == len(data)
            assert server.counters.dropped_node_rate == server.counters.dropped > 0

    run(main)


def test_nobody_takes_the_place_of_a_relay_whose_id_is_known() -> None:
    async def main() -> None:
        async with relaying() as (server, address), clients(1) as (a,):
            link = await a.register(address, peer_id=Identity.generate().peer_id)
            assert link.route is None
            assert "instead of" in link.problem
            assert server.counters.registrations == 0

    run(main)


@pytest.mark.parametrize("place", [("a" * 64 + ".org", 7339), ("127.0.0.1", 70000), ("127.0.0.1", 2**70)])
def test_a_relay_that_cannot_be_is_a_problem_like_any_other(place: tuple[str, int]) -> None:
    async def main() -> None:
        async with clients(1) as (a,):
            link = await a.register(Address(*place))
            assert link.problem
            assert not a.tasks[0].done(), "it tries again, for whoever named the relay may mend it"

    run(main)


@pytest.mark.parametrize("listen", [LOOPBACK, Address("::1", 0)], ids=["IPv4", "IPv6"])
def test_a_peer_at_addresses_that_cannot_be_is_lost_and_the_node_goes_on(listen: Address) -> None:
    async def main() -> None:
        async with clients(1) as (b,):
            transport = QuicTransport(Identity.generate(), listen)

            async def nothing(_: object) -> None:
                pass

            links = Links(transport.peer_id, on_stream=nothing, on_connection=nothing, admit=nothing)
            running = asyncio.create_task(links.run([transport]))
            await asyncio.sleep(0)
            announced = [Address(host, port) for host in ("127.0.0.1", "::1") for port in (0, 70000, -1)]
            with pytest.raises(PeerLost):
                await links.connect(
                    b.transport.peer_id, [*announced, Address("fe80::1%nowhere", 1), Address("", 1)]
                )
            assert not running.done()
            running.cancel()
            await asyncio.wait([running])

    run(main)
