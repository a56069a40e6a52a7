"""Two nodes that dial each other at once keep one connection, and both the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from neighbours import Neighbour, neighbour
from waiting import until

from gridnode.net.memory import MemoryNetwork
from gridnode.net.transport import Connection
from gridnode.node import links
from gridnode.wire.codec import encode_message
from gridnode.wire.messages import OpenNews


@pytest.fixture(params=["memory", "quic"])
def network(request: pytest.FixtureRequest) -> MemoryNetwork | None:
    return MemoryNetwork() if request.param == "memory" else None


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "SURPLUS_LOOK_S", 0.02)


def open_links(node: Neighbour) -> list[Connection]:
    """Return all connections of a node, those included that are not used any more."""
    return [link for links in node.links._connections.values() for link in links]


@asynccontextmanager
async def met(network: MemoryNetwork | None) -> AsyncIterator[tuple[Neighbour, Neighbour]]:
    """Yield two nodes that have dialled each other at the same time, the one with the smaller id first."""
    async with neighbour(network) as one, neighbour(network) as other:
        small, large = sorted((one, other), key=lambda node: node.peer_id)
        await asyncio.gather(small.links.join(large.address), large.links.join(small.address))
        yield small, large


def test_the_connection_that_the_smaller_id_dialled_remains(network: MemoryNetwork | None) -> None:
    async def main() -> None:
        async with met(network) as (small, large):
            await until(lambda: len(open_links(small)) == len(open_links(large)) == 1)
            [near], [far] = open_links(small), open_links(large)
            assert (near.is_client, far.is_client) == (True, False)
            await until(lambda: small.knows(large)(None) and large.knows(small)(None))

    asyncio.run(main())


def test_what_runs_on_the_other_one_may_finish(network: MemoryNetwork | None) -> None:
    async def main() -> None:
        async with neighbour(network) as one, neighbour(network) as other:
            small, large = sorted((one, other), key=lambda node: node.peer_id)
            surplus = await large.links.join(small.address)
            stream = await surplus.open_stream()
            await stream.send(encode_message(OpenNews()))
            assert await stream.receive() is not None  # it works
            chosen = await small.links.join(large.address)
            await until(lambda: len(open_links(large)) == 2 and surplus not in large.links._news)
            assert large.links.connections()[small.peer_id] is not surplus
            await until(lambda: surplus.streams == 1)
            assert not surplus.is_closed
            stream.reset()
            await surplus.wait_closed()
            await until(lambda: open_links(small) == [chosen])

    asyncio.run(main())


def test_who_was_told_to_join_does_not_dial_again_while_the_other_connection_lasts(
    network: MemoryNetwork | None,
) -> None:
    async def main() -> None:
        async with neighbour(network) as one, neighbour(network, join=(one.address,)) as other:
            await until(lambda: one.peer_id in other.links.connections())
            dialled = await one.links.join(other.address)
            await until(lambda: len(open_links(one)) == len(open_links(other)) == 1)
            kept = other.links.connections()[one.peer_id]
            assert kept.is_client == (other.peer_id < one.peer_id)
            assert dialled.is_closed == kept.is_client

            async def never() -> None:
                await until(lambda: len(open_links(one)) > 1, timeout_s=1.5)  # longer than a backoff

            with pytest.raises(TimeoutError):
                await never()

    asyncio.run(main())
