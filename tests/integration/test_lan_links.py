"""Links to peers that were found on the LAN, over the in-memory transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from waiting import until

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId, show_peer
from gridnode.net.discovery import ID_PREFIX_CHARACTERS, LanPeer
from gridnode.net.memory import MemoryNetwork, MemoryTransport
from gridnode.net.transport import Connection, Stream
from gridnode.node import lan_links, links
from gridnode.node.lan_links import LanLinks
from gridnode.node.links import Links

SMALL, LARGE = PeerId(b"\x01" * 32), PeerId(b"\xf0" * 32)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers late in memory."""
    monkeypatch.setattr(links, "DIAL_TIMEOUT_S", 0.1)
    monkeypatch.setattr(lan_links, "MIN_BACKOFF_S", 0.02)
    monkeypatch.setattr(lan_links, "PATIENCE_S", 0.02)
    monkeypatch.setattr(lan_links, "MAX_DIALS_PER_S", 200.0)


@dataclass
class Node:
    transport: MemoryTransport
    links: Links
    lan: LanLinks

    @property
    def peer_id(self) -> PeerId:
        return self.transport.peer_id

    def says(self, *addresses: Address) -> LanPeer:
        """Return what this node announces, by default its address."""
        return LanPeer(
            id_prefix=show_peer(self.peer_id)[:ID_PREFIX_CHARACTERS],
            fingerprint="0" * 16,
            addresses=addresses or (self.transport.address,),
        )

    def is_linked(self, other: Node) -> bool:
        return other.peer_id in self.links.connections()


@asynccontextmanager
async def node(network: MemoryNetwork, peer_id: PeerId, *, near: str = "192.0.2.") -> AsyncIterator[Node]:
    async def ignore_stream(stream: Stream) -> None:
        await stream.wait_lost()

    async def ignore_connection(connection: Connection) -> None:
        await connection.wait_closed()

    async def admit(connection: Connection) -> None:
        pass

    own_links = Links(peer_id, on_stream=ignore_stream, on_connection=ignore_connection, admit=admit)
    transport = network.transport(peer_id)
    lan = LanLinks(own_links, is_near=lambda address: address.host.startswith(near))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(own_links.run([transport])), group.create_task(lan.run())]
        await asyncio.sleep(0)  # both begin
        try:
            yield Node(transport, own_links, lan)
        finally:
            for task in tasks:
                task.cancel()


@pytest.mark.parametrize(("one", "other"), [(SMALL, LARGE), (LARGE, SMALL)])
def test_a_found_peer_is_linked_whoever_found_it(one: PeerId, other: PeerId) -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with node(network, one) as a, node(network, other) as b:
            a.lan.found("b", b.says())
            await until(lambda: a.is_linked(b) and b.is_linked(a))

    asyncio.run(scenario())


def test_two_that_find_each_other_make_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan_links, "PATIENCE_S", 0.5)

    async def scenario() -> None:
        network = MemoryNetwork()
        async with node(network, LARGE) as a, node(network, SMALL) as b:
            a.lan.found("b", b.says())
            b.lan.found("a", a.says())
            await until(lambda: a.is_linked(b) and b.is_linked(a))
            await asyncio.sleep(lan_links.PATIENCE_S)  # the other one would dial by now
            assert len(a.transport.connections) == 1

    asyncio.run(scenario())


def test_a_link_that_broke_comes_back_until_the_peer_is_lost() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with node(network, SMALL) as a, node(network, LARGE) as b:
            a.lan.found("b", b.says())
            await until(lambda: a.is_linked(b))
            network.cut(a.peer_id, b.peer_id)
            await until(lambda: not a.is_linked(b))
            network.heal(a.peer_id, b.peer_id)
            await until(lambda: a.is_linked(b))
            a.lan.lost("b")
            assert a.is_linked(b)  # it goes on until it ends by itself
            network.cut(a.peer_id, b.peer_id)
            await until(lambda: not a.is_linked(b))
            network.heal(a.peer_id, b.peer_id)
            await asyncio.sleep(0.2)  # ten times as long as a link takes that comes back
            assert not a.is_linked(b)

    asyncio.run(scenario())


def test_addresses_near_by_are_dialled_first() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with node(network, SMALL, near="192.0.2.") as a, node(network, LARGE) as b:
            dialled: list[Address] = []
            join = a.links.join

            async def remember(address: Address) -> Connection:
                dialled.append(address)
                return await join(address)

            a.links.join = remember  # type: ignore[method-assign]
            a.lan.found("b", b.says(Address("10.9.9.9", 7338), b.transport.address))
            await until(lambda: a.is_linked(b))
            assert dialled == [b.transport.address]

    asyncio.run(scenario())


def test_nobody_on_the_lan_makes_us_dial_the_internet() -> None:
    """B11."""

    async def scenario() -> None:
        network = MemoryNetwork()
        async with node(network, SMALL) as a, node(network, LARGE) as b:
            a.lan.found("b", b.says(Address("8.8.8.8", 53)))
            assert not a.lan._tasks

    asyncio.run(scenario())


def test_somebody_else_at_the_address_is_left_alone() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with (
            node(network, SMALL) as a,
            node(network, LARGE) as b,
            node(network, PeerId(b"\x33" * 32)) as c,
        ):
            a.lan.found("b", b.says(c.transport.address, b.transport.address))
            await until(lambda: a.is_linked(b))
            await until(lambda: not a.is_linked(c))

    asyncio.run(scenario())


def test_dials_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan_links, "MAX_DIALS_PER_S", 10.0)

    async def scenario() -> None:
        network = MemoryNetwork()
        async with node(network, SMALL) as a:
            dialled: list[Address] = []

            async def count(address: Address) -> Connection:
                dialled.append(address)
                raise links.PeerLost("nobody")

            a.links.join = count  # type: ignore[method-assign]
            for i in range(200):
                forged = LanPeer(
                    id_prefix=f"z{i:015}", fingerprint="0" * 16, addresses=(Address("192.0.2.9", 1 + i),)
                )
                a.lan.found(f"forged {i}", forged)
            before = asyncio.get_running_loop().time()
            await until(lambda: len(dialled) >= 25)
            # Bursts of two seconds' worth, then ten a second.
            assert asyncio.get_running_loop().time() - before > 0.4

    asyncio.run(scenario())
