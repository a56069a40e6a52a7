"""Nodes that reach each other through relays, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from nodes import LOOPBACK, START_TIMEOUT_S, ask
from rich.console import Console
from waiting import until
from websockets.asyncio.client import ClientConnection, connect

from gridnode.cli.status_tables import status_view
from gridnode.config import NodeConfig
from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId
from gridnode.core.models import QuantFormat
from gridnode.core.relays import Relay
from gridnode.core.spans import Span
from gridnode.errors import PeerLost
from gridnode.net.carrier import PathKind
from gridnode.net.identity import Identity
from gridnode.net.lane_tls import client_context
from gridnode.net.path_router import PathRouter
from gridnode.net.quic import QuicTransport
from gridnode.net.relay_limits import RelayLimits
from gridnode.net.relay_link import RelayLink
from gridnode.net.relay_server import RelayServer
from gridnode.net.relay_service import RelayService
from gridnode.net.transport import Connection
from gridnode.node.links import Links
from gridnode.node.node import Node
from gridnode.wire.frames import Frame


def run(main: Callable[[], Awaitable[None]], timeout_s: float = 60.0) -> None:
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
    made = [Client() for _ in range(number)]
    try:
        yield made
    finally:
        for each in made:
            await each.aclose()


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
                    async with asyncio.timeout(0.3):
                        await websocket.wait_closed()
                except TimeoutError:
                    return True
                return False

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


def test_a_node_is_a_relay_for_others_beside_its_work(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            place = Address("127.0.0.1", taken.getsockname()[1])
        configs = [quiet_node(tmp_path / name, [place]) for name in ("ada", "bo")]
        configs[0] = replace(configs[0], serve_relay=place)
        async with running(*configs) as nodes:
            await until(lambda: all(len(node.status().peers) == 2 for node in nodes))
            assert {relay.path for node in nodes for relay in node.status().relays} == {"relay"}
            served, none = (node.status().served_relay for node in nodes)
            assert none is None
            assert served is not None
            assert (served.listen, served.counters.udp_nodes) == (str(place), 2)
            assert served.counters.udp_packets, "they met through it"

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


@contextlib.asynccontextmanager
async def running(*configs: NodeConfig) -> AsyncIterator[list[Node]]:
    nodes, tasks = [], []
    for config in configs:
        listening = asyncio.Event()
        node = Node(config)
        tasks.append(asyncio.create_task(node.run(on_listening=listening.set)))
        await listening.wait()
        nodes.append(node)
    try:
        yield nodes
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def test_nodes_that_know_only_a_relay_form_a_swarm_answer_and_find_the_direct_way(
    tiny_llama: Path, tmp_path: Path
) -> None:
    async def main() -> None:
        async with relaying() as (server, address):
            configs = [
                NodeConfig(
                    model=str(tiny_llama),
                    blocks=span,
                    quantization=QuantFormat.NONE,
                    dtype="float32",
                    threads=1,
                    cache_tokens=2048,
                    listen=LOOPBACK,
                    mdns=False,
                    relay=(str(address),),
                    state_dir=tmp_path / f"{span.start}",
                )
                for span in (Span(0, 2), Span(2, 4))
            ]
            async with running(*configs) as nodes:
                await until(
                    lambda: all(
                        sum(peer.state == "online" for peer in node.status().peers) == 2 for node in nodes
                    ),
                    timeout_s=START_TIMEOUT_S,
                )
                assert server.counters.packets
                answer = await ask(nodes[0], [1, 2, 3], max_tokens=4)
                assert len(answer.token_ids) == 4
                await until(
                    lambda: all(
                        {peer.path for peer in node.status().peers} == {"self", "direct"} for node in nodes
                    )
                )

    run(main, 2 * START_TIMEOUT_S)


def quiet_node(directory: Path, relays: Sequence[Address]) -> NodeConfig:
    """Return a node without blocks that finds others by relays alone."""
    return NodeConfig(
        listen=LOOPBACK,
        mdns=False,
        relay=tuple(map(str, relays)),
        state_dir=directory,
        public_name=directory.name,
    )


def test_a_swarm_meets_at_the_nearest_relays_replaces_those_that_die_and_outlives_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            relays = {}
            for _ in range(5):
                one = contextlib.AsyncExitStack()
                stack.push_async_exit(one)
                server, address = await one.enter_async_context(relaying())
                relays[address] = (server, one)
            addresses = list(relays)
            configs = [
                quiet_node(tmp_path / "ada", addresses),
                quiet_node(tmp_path / "bo", addresses[::-1]),
                quiet_node(tmp_path / "cy", addresses[2:] + addresses[:2]),
            ]
            nodes = await stack.enter_async_context(running(*configs))

            def homes(node: Node) -> set[Address]:
                return {
                    relay.place for peer in node.swarm.peers.values() for relay in peer.announcement.relays
                }

            def used() -> list[Address]:
                return [address for address, (server, _) in relays.items() if server.counters.nodes]

            def is_complete(node: Node) -> bool:
                return sum(peer.path != "none" for peer in node.status().peers) == len(nodes)

            await until(lambda: all(map(is_complete, nodes)))
            await until(lambda: [each[0].counters.nodes for each in relays.values()].count(3) == 3)
            assert len(used()) == 3, "all nodes chose the same three of five"
            await until(lambda: all(len(homes(node)) >= 2 and homes(node) <= set(used()) for node in nodes))
            first = used()[0]
            await relays.pop(first)[1].aclose()
            await until(lambda: len(used()) == 3 and all(first not in homes(node) for node in nodes))
            for _, one in relays.values():
                await one.aclose()
            await until(lambda: all(not homes(node) for node in nodes))
            nodes[0].reconfigure(replace(nodes[0].config, public_name="ida"))
            await until(lambda: all("ida" in {peer.public_name for peer in n.status().peers} for n in nodes))
            assert all(map(is_complete, nodes))

    run(main)


def test_a_node_says_how_its_relays_are(tmp_path: Path) -> None:
    async def main() -> None:
        async with relaying() as (_, address):
            config = replace(quiet_node(tmp_path, [address]), relay=(str(address), "nowhere.invalid"))
            async with running(config) as [node]:
                await until(lambda: {each.path for each in node.status().relays} == {"relay", "none"})
                await until(lambda: any(each.observed for each in node.status().relays))
                await until(lambda: any("leads nowhere" in each.problem for each in node.status().relays))
                shown = io.StringIO()
                Console(file=shown, width=200).print(status_view(node.status()))
                assert f"relay {address}:" in shown.getvalue()
                assert f"sees this node at {node.address}" in shown.getvalue()
                assert "nowhere.invalid:7339: the name nowhere.invalid leads nowhere" in shown.getvalue()

    run(main)
