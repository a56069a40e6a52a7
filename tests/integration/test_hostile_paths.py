"""What members, relays and strangers can make a node do by what they say about ways: little."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from nodes import LOOPBACK
from waiting import until

from gridnode.config import NodeConfig
from gridnode.core.addresses import Address
from gridnode.core.ids import PEER_ID_BYTES, PeerId
from gridnode.core.relays import TAG_BYTES, Relay, peer_tag
from gridnode.net.identity import Identity
from gridnode.net.path_router import PathRouter
from gridnode.net.quic import QuicTransport
from gridnode.net.quic_driver import RELAY_ALPN
from gridnode.net.relay_limits import RelayLimits
from gridnode.net.relay_link import READ_INTERVAL_S, RelayLink
from gridnode.net.relay_service import RelayService
from gridnode.net.transport import Stream
from gridnode.net.udp import SocketAddress
from gridnode.node.node import Node
from gridnode.node.path_talk import PathTalk
from gridnode.node.port_guessing import PortGuessing
from gridnode.node.relaying import MAX_MEMBER_DIALS
from gridnode.wire.codec import encode_message
from gridnode.wire.relay_messages import (
    MAX_MEMBERS,
    Members,
    Observed,
    PathOffer,
    Punch,
    Register,
    Registered,
    decode_relay_message,
)
from gridnode.wire.relay_packets import SECRET_BYTES, forward, make_probe


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await main()

    asyncio.run(limited())


@contextlib.asynccontextmanager
async def two_transports() -> AsyncIterator[tuple[QuicTransport, QuicTransport]]:
    made = QuicTransport(Identity.generate(), LOOPBACK), QuicTransport(Identity.generate(), LOOPBACK)
    try:
        yield made
    finally:
        for transport in made:
            await transport.aclose()


def test_a_peer_with_many_streams_causes_no_more_probes_than_with_one() -> None:
    """Probes go where the peer says: they must not become many at somebody else's computer."""

    async def main() -> None:
        async with two_transports() as (honest, hostile):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
                victim.bind(("127.0.0.1", 0))
                victim.setblocking(False)
                router = PathRouter(honest.endpoint, honest.peer_id)
                peer = router.peer(hostile.peer_id)
                never = asyncio.Event()
                connection = await hostile.dial(honest.address, peer_id=honest.peer_id, timeout_s=5)
                accepted = await honest.accept()
                offer = PathOffer(
                    secret=bytes(SECRET_BYTES), own=(Address(*victim.getsockname()),), observed=()
                )
                talks = []
                for _ in range(20):
                    stream = await connection.open_stream()
                    await stream.send(encode_message(offer))
                    await stream.send(encode_message(Punch()))
                    heard = await accepted.accept_stream()
                    await heard.receive()
                    talk = PathTalk(
                        peer,
                        honest.endpoint,
                        own=lambda: (),
                        observed=lambda: (),
                        changed=lambda: never,
                        guessing=PortGuessing(is_allowed=False),
                    )
                    talks.append(asyncio.create_task(talk.follow(heard, offer)))
                probes = 0

                def more_probes() -> int:
                    nonlocal probes
                    with contextlib.suppress(BlockingIOError):
                        while victim.recv(100):
                            probes += 1
                    return probes

                await until(lambda: more_probes() >= 4)
                assert probes <= 8, "those of one round"
                for task in talks:
                    task.cancel()
                await asyncio.wait(talks)
                router.close()

    run(main)


def test_a_forged_probe_costs_no_more_than_its_check() -> None:
    looks = 0

    def is_translated() -> bool:
        nonlocal looks  # through all interfaces: a hundred times as long as the check
        looks += 1
        return False

    async def main() -> None:
        async with two_transports() as (honest, other):
            router = PathRouter(honest.endpoint, honest.peer_id, is_translated=is_translated)
            peer = router.peer(other.peer_id)
            peer.accept_offer(bytes(SECRET_BYTES), ())
            for secret in (os.urandom(SECRET_BYTES), peer.paths.secret):
                before = looks
                probe = make_probe(is_answer=False, tag=peer.tag, number=1, secret=secret)
                assert honest.endpoint.on_raw is not None
                honest.endpoint.on_raw(probe, ("127.0.0.1", 9))
                assert bool(looks > before) is bool(peer.paths.paths()) is (secret == peer.paths.secret)
            router.close()

    run(main)


@contextlib.asynccontextmanager
async def hostile_relay(behave: Callable[[Stream], Awaitable[None]]) -> AsyncIterator[Address]:
    """Take one registration, and leave the rest to `behave`."""
    transport = QuicTransport(Identity.generate(), LOOPBACK, protocols=(RELAY_ALPN,), has_lanes=False)

    async def serve() -> None:
        connection = await transport.accept_relay_client()
        stream = await connection.accept_stream()
        frame = await stream.receive()
        assert frame is not None
        assert isinstance(decode_relay_message(frame), Register)
        await stream.send(encode_message(Registered(bytes_per_s=1)))
        await behave(stream)
        await connection.wait_closed()

    serving = asyncio.create_task(serve())
    try:
        yield transport.address
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        await transport.aclose()


def test_a_relay_that_invents_members_causes_few_dials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridnode.node.links.DIAL_TIMEOUT_S", 1.0)
    last = Address("192.0.2.9", 9)

    async def invent(stream: Stream) -> None:
        for _ in range(3):
            invented = [PeerId(os.urandom(PEER_ID_BYTES)) for _ in range(MAX_MEMBERS // 2)]
            twice = tuple(peer_id for peer_id in invented for _ in range(2))
            await stream.send(encode_message(Members(peers=twice)))
        await stream.send(encode_message(Observed(address=last)))

    async def main() -> None:
        async with hostile_relay(invent) as address:
            config = NodeConfig(listen=LOOPBACK, mdns=False, relay=(str(address),), state_dir=tmp_path)
            node = Node(config)
            running = asyncio.create_task(node.run())
            await until(lambda: any(relay.observed == str(last) for relay in node.status().relays))
            dialled = [task for task in asyncio.all_tasks() if task.get_name().startswith("member ")]
            assert 0 < len(dialled) <= MAX_MEMBER_DIALS
            await asyncio.wait(dialled)
            assert all(task.exception() is None for task in dialled)
            running.cancel()
            await asyncio.wait([running])

    run(main)


def test_a_relay_that_says_many_addresses_is_read_slowly() -> None:
    said = 50

    async def babble(stream: Stream) -> None:
        for number in range(said):
            await stream.send(encode_message(Observed(address=Address("192.0.2.9", 1 + number))))

    async def main() -> None:
        async with hostile_relay(babble) as address, two_transports() as (honest, _):
            heard: set[Address | None] = set()
            router = PathRouter(honest.endpoint, honest.peer_id)
            link = RelayLink(
                Relay(address.host, address.port),
                honest,
                router,
                tags=lambda: (),
                on_members=lambda *_: None,
                on_change=lambda: heard.add(link.observed),
                is_alone=lambda: False,
            )
            running = asyncio.create_task(link.run())
            before = asyncio.get_running_loop().time()
            await until(lambda: len(heard) >= 5)
            assert asyncio.get_running_loop().time() - before >= 3 * READ_INTERVAL_S
            running.cancel()
            await asyncio.wait([running])
            router.close()

    run(main)


def test_who_has_registered_and_left_keeps_no_place_at_a_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridnode.net.relay_service.REGISTER_TIMEOUT_S", 0.3)

    async def main() -> None:
        relay = RelayService(Identity.generate(), LOOPBACK, RelayLimits())
        running = asyncio.create_task(relay.run())
        transport = QuicTransport(Identity.generate(), LOOPBACK)
        connection = await transport.dial_relay(relay.address, peer_id=None, timeout_s=5)
        stream = await connection.open_stream()
        await stream.send(encode_message(Register(swarms=("s",))))
        await stream.receive()
        stream.finish()
        await connection.wait_closed()
        assert relay.server.counters.registrations == 1
        assert relay.server.counters.nodes == 0
        await transport.aclose()
        running.cancel()
        await asyncio.wait([running])

    run(main)


def test_a_relay_sends_nothing_to_an_address_that_a_node_only_claims_to_have() -> None:
    async def main() -> None:
        relay = RelayService(Identity.generate(), LOOPBACK, RelayLimits())
        running = asyncio.create_task(relay.run())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
            victim.bind(("127.0.0.1", 0))
            victim.setblocking(False)
            async with two_transports() as (attacker, helper):
                for transport in (helper, attacker):
                    connection = await transport.dial_relay(relay.address, peer_id=None, timeout_s=5)
                    stream = await connection.open_stream()
                    await stream.send(encode_message(Register()))
                    await stream.receive()
                received: list[bytes] = []
                attacker.endpoint.on_raw = lambda data, _: received.append(data)

                def claim(datagrams: list[tuple[bytes, SocketAddress]]) -> None:
                    """Send as if from the victim."""
                    for data, destination in datagrams:
                        victim.sendto(data, destination)

                attacker.endpoint._socket.send = claim  # type: ignore[method-assign, assignment]
                pinging = asyncio.create_task(connection.ping())
                counters, to_relay = relay.server.counters, tuple(relay.address)

                def has_looked() -> bool:
                    # A packet from an unknown address lets the relay look who has moved, every 50 ms at most.
                    attacker.endpoint.send_raw(forward(bytes(TAG_BYTES), b"x"), to_relay)
                    return counters.dropped_stranger + counters.dropped_absent >= 40

                await until(has_looked)
                flood = forward(peer_tag(attacker.peer_id), b"flood")
                for _ in range(20):
                    helper.endpoint.send_raw(flood, to_relay)
                await until(lambda: counters.udp_packets >= 20)
                await until(lambda: sum(data.endswith(b"flood") for data in received) >= 20)
                seen = []
                with contextlib.suppress(BlockingIOError):
                    while data := victim.recv(2000):
                        seen.append(data)
                assert seen, "it is asked whether it is there"
                assert not any(data.endswith(b"flood") for data in seen)
                pinging.cancel()
                await asyncio.wait([pinging])
        running.cancel()
        await asyncio.wait([running])

    run(main)
