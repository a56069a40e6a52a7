"""WebSockets of relays, for nodes that UDP does not reach."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest
from relay_clients import clients, relaying, run
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gridnode.core.addresses import Address
from gridnode.net.carrier import PathKind
from gridnode.net.lane_tls import client_context
from gridnode.net.relay_limits import RelayLimits
from gridnode.wire.frames import Frame


def test_strangers_get_few_websockets_and_only_where_relays_have_them() -> None:
    async def main() -> None:
        limits = RelayLimits(nodes_per_address=2)
        async with relaying(limits) as (server, address):

            async def is_open(path: str) -> bool:
                websocket = await connect(
                    f"wss://{address}{path}", ssl=client_context(), compression=None, proxy=None
                )
                opened.append(websocket)
                try:
                    await (await websocket.ping())  # answered behind whatever is sent at once
                except ConnectionClosed:
                    return False
                return True

            opened: list[ClientConnection] = []
            assert not await is_open("/")
            assert [await is_open("/relay") for _ in range(3)] == [True, True, False]
            assert server.counters.refused_nodes_per_address == 1
            for noise in (b"\xff\xff", "text"):
                await opened[1].send(noise)
                await opened[1].wait_closed()
                opened[1:2] = []
            for websocket in opened:
                await websocket.close()

    run(main)


def test_a_node_without_udp_says_why_a_relay_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with relaying(RelayLimits(nodes=1)) as (_, address), clients(2) as (a, b):
            await a.register(address)
            monkeypatch.setattr("gridnode.net.relay_link.UDP_TIMEOUT_S", 0.1)
            b.lose_udp()
            link = await b.register(address)
            assert link.route is None
            assert "has its 1 nodes" in link.problem

    run(main)


def test_where_udp_is_blocked_packets_go_through_a_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with relaying() as (server, address), clients(2) as (a, b):
            await b.register(address)
            monkeypatch.setattr("gridnode.net.relay_link.UDP_TIMEOUT_S", 0.1)
            a.lose_udp()
            link = await a.register(address)
            assert link.observed is None, "what TCP is seen as is of no use"
            near = await a.dial(b)
            far = await b.transport.accept()
            assert near.path is PathKind.WEBSOCKET
            assert far.path is PathKind.RELAY
            assert near.address == address
            stream = await near.open_stream()
            data = bytes(1_000_000)
            await stream.send(Frame(0x10, {}, data))
            received = await (await far.accept_stream()).receive()
            assert received is not None
            assert len(received.body) == len(data)
            counters = server.counters
            assert (counters.udp_nodes, counters.websocket_nodes) == (1, 1)
            assert counters.udp_bytes > len(data)
            assert 0 < counters.websocket_bytes < len(data), "answers only"
        assert counters.nodes == 0

    run(main)


def test_silent_strangers_hold_few_descriptors_of_a_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all of them before TLS: some say what they want, or nothing, after it."""
    monkeypatch.setattr("gridnode.net.guarded_listener.MAX_STRANGERS", 3)

    async def is_dropped(address: Address, context: ssl.SSLContext | None) -> bool:
        try:
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
        except ConnectionResetError:
            return True
        opened.append(writer)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            async with asyncio.timeout(0.2):
                await reader.read()
        return reader.at_eof() or reader.exception() is not None

    async def main() -> None:
        async with relaying() as (_, address):
            contexts = [None, client_context(), client_context(), None, client_context()]
            assert [await is_dropped(address, context) for context in contexts] == [False] * 3 + [True] * 2
            for writer in opened:
                writer.transport.abort()

    opened: list[asyncio.StreamWriter] = []
    run(main)


def test_a_websocket_of_a_node_does_not_count_as_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridnode.net.guarded_listener.MAX_STRANGERS", 1)

    async def main() -> None:
        async with relaying() as (_, address):
            opened = [
                await connect(f"wss://{address}/relay", ssl=client_context(), compression=None, proxy=None)
                for _ in range(3)
            ]
            for websocket in opened:
                await (await websocket.ping())
                await websocket.close()

    run(main)
