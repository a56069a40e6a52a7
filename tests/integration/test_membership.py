"""Announcements between real services over the in-memory transport."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from neighbours import neighbour, telling
from waiting import until

from gridnode.core.addresses import Address
from gridnode.core.announcements import PeerState
from gridnode.core.ids import PeerId
from gridnode.core.swarm_pass import SwarmPass
from gridnode.errors import PeerLost
from gridnode.net.memory import LinkQuality, MemoryNetwork
from gridnode.node import links
from gridnode.wire.messages import (
    PROTOCOL_VERSION,
)


@pytest.fixture(autouse=True)
def impatient_dials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers late in memory."""
    monkeypatch.setattr(links, "DIAL_TIMEOUT_S", 0.1)


def test_three_nodes_know_each_other_through_the_one_they_joined() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with (
            neighbour(network) as a,
            neighbour(network, join=(a.address,)) as b,
            neighbour(network, join=(a.address,)) as c,
            asyncio.timeout(10),
        ):
            await a.membership.wait_until(a.knows(b, c))
            await b.membership.wait_until(b.knows(a, c))
            await c.membership.wait_until(c.knows(a, b))

    asyncio.run(scenario())


def test_nodes_that_heard_of_each_other_connect_without_the_one_between() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with (
            neighbour(network) as b,
            neighbour(network) as a,
            neighbour(network, join=(a.address, b.address)) as c,
            asyncio.timeout(10),
        ):
            await a.membership.wait_until(a.knows(b, c))
            await until(lambda: b.peer_id in a.links.connections())

    asyncio.run(scenario())


def test_a_goodbye_is_heard_at_once() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with (
            neighbour(network) as a,
            neighbour(network, join=(a.address,)) as b,
            asyncio.timeout(10),
        ):
            await a.membership.wait_until(a.knows(b))
            b.state = PeerState.OFFLINE
            await b.membership.say_goodbye()
            await a.membership.wait_until(a.knows())

    asyncio.run(scenario())


def test_a_goodbye_is_over_when_it_was_heard() -> None:
    async def scenario() -> None:
        network = MemoryNetwork(quality=LinkQuality(delay_s=0.1))
        async with (
            neighbour(network) as a,
            neighbour(network, join=(a.address,)) as b,
            asyncio.timeout(10),
        ):
            await a.membership.wait_until(a.knows(b))
            b.state = PeerState.OFFLINE
            await b.membership.say_goodbye()
            assert a.membership.swarm.peers.keys() == {a.peer_id}

    asyncio.run(scenario())


def test_what_was_said_before_a_goodbye_is_not_believed_again() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with neighbour(network) as a, asyncio.timeout(10):
            async with neighbour(network, join=(a.address,)) as b:
                await a.membership.wait_until(a.knows(b))
                recorded, _ = a.membership._signed[b.peer_id]
                b.state = PeerState.OFFLINE
                await b.membership.say_goodbye()
            async with telling(network, a) as tell, neighbour(network, join=(a.address,)) as c:
                await tell(recorded)
                # c comes later, and is heard of; b is not.
                await a.membership.wait_until(a.knows(c))

    asyncio.run(scenario())


def test_a_forged_announcement_ends_what_its_teller_may_say() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with (
            neighbour(network) as a,
            neighbour(network, join=(a.address,)) as b,
            telling(network, a) as tell,
            asyncio.timeout(10),
        ):
            await a.membership.wait_until(a.knows(b))
            recorded, _ = a.membership._signed[b.peer_id]
            await tell(replace(recorded, signature=bytes(64)))

            async def go_on() -> None:
                while True:
                    await tell(recorded)
                    await asyncio.sleep(0)

            with pytest.raises(PeerLost):
                await go_on()
            assert a.membership.swarm.peers.keys() == {a.peer_id, b.peer_id}

    asyncio.run(scenario())


def test_a_node_that_dies_expires_and_comes_back() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with (
            neighbour(network) as a,
            neighbour(network, join=(a.address,), ttl_s=0.3) as b,
            asyncio.timeout(10),
        ):
            await a.membership.wait_until(a.knows(b))
            network.cut(a.peer_id, b.peer_id)
            await a.membership.wait_until(a.knows())
            network.heal(a.peer_id, b.peer_id)
            await a.membership.wait_until(a.knows(b))

    asyncio.run(scenario())


def test_a_peer_that_cannot_be_reached_is_forgotten_until_it_is_back() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with (
            neighbour(network) as a,
            neighbour(network, join=(a.address,)) as b,
            asyncio.timeout(20),
        ):
            for one, other in ((a, b), (b, a)):
                await one.membership.wait_until(one.knows(other))
            network.cut(a.peer_id, b.peer_id)
            # Long before the announcements expire, on both sides.
            for one in (a, b):
                await one.membership.wait_until(one.knows())
            network.heal(a.peer_id, b.peer_id)
            for one, other in ((a, b), (b, a)):
                await one.membership.wait_until(one.knows(other))

    asyncio.run(scenario())


def test_swarms_of_other_names_do_not_mix(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with (
            neighbour(network, swarm=SwarmPass(name="home")) as a,
            neighbour(network, swarm=SwarmPass(name="lab"), join=(a.address,)) as b,
            asyncio.timeout(10),
        ):
            await until(lambda: "belongs to swarm" in caplog.text)
            assert a.membership.swarm.peers.keys() == {a.peer_id}
            assert b.membership.swarm.peers.keys() <= {b.peer_id}

    with caplog.at_level("WARNING", logger="gridnode"):
        asyncio.run(scenario())
    assert "start both with the same --swarm" in caplog.text


def test_the_next_protocol_is_understood_and_later_ones_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with neighbour(network) as a, neighbour(network) as b, asyncio.timeout(10):
            await b.membership.wait_until(b.knows())
            recorded, _ = b.membership._signed[b.peer_id]
            async with telling(network, a, protocol=PROTOCOL_VERSION + 2):
                await until(lambda: "upgrade the older one" in caplog.text)
            assert a.membership.swarm.peers.keys() == {a.peer_id}
            async with telling(network, a, protocol=PROTOCOL_VERSION + 1) as tell:
                await tell(recorded)
                await a.membership.wait_until(a.knows(b))

    with caplog.at_level("WARNING", logger="gridnode"):
        asyncio.run(scenario())
    assert f"rogue with protocol {PROTOCOL_VERSION + 2}" in caplog.text


def test_one_dial_serves_all_who_want_the_same_peer() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with neighbour(network) as a, neighbour(network) as b, asyncio.timeout(10):
            found = await asyncio.gather(*(a.links.connect(b.peer_id, [b.address]) for _ in range(5)))
            assert len(set(map(id, found))) == 1

    asyncio.run(scenario())


def test_a_peer_that_does_not_answer_is_lost() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with neighbour(network) as a, asyncio.timeout(10):
            with pytest.raises(PeerLost):
                await a.links.connect(PeerId(b"x" * 32), [Address("127.0.0.1", 1)])
            with pytest.raises(PeerLost, match="no address"):
                await a.links.connect(PeerId(b"x" * 32), [])

    asyncio.run(scenario())
