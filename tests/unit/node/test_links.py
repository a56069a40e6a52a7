import asyncio

import pytest
from plain_links import plain_links

from gridnode.core.ids import PeerId
from gridnode.errors import ConnectionClosed, PeerLost, ProtocolError
from gridnode.net.memory import MemoryNetwork
from gridnode.net.transport import Connection, Stream
from gridnode.node.links import Links


async def ignore(_: Stream | Connection) -> None:
    pass


ME, OTHER, WANTED = PeerId(b"m" * 32), PeerId(b"o" * 32), PeerId(b"w" * 32)


def test_a_peer_is_lost_when_somebody_else_answers_at_its_address() -> None:
    async def scenario() -> None:
        network = MemoryNetwork()
        async with plain_links(network, ME) as me, plain_links(network, OTHER) as other:
            with pytest.raises(PeerLost, match="answered instead of"):
                await me.links.connect(WANTED, (other.address,))

    asyncio.run(scenario())


def test_a_peer_that_speaks_nonsense_when_it_is_let_in_is_lost() -> None:
    async def hear_nonsense(_: Connection) -> None:
        raise ProtocolError("unknown message type 0x7f")

    async def scenario() -> None:
        network = MemoryNetwork()
        async with (
            plain_links(network, ME, admit=hear_nonsense) as me,
            plain_links(network, OTHER) as other,
        ):
            with pytest.raises(PeerLost, match="0x7f"):
                await me.links.connect(OTHER, (other.address,))

    asyncio.run(scenario())


def test_nobody_is_dialled_any_more_by_links_that_end() -> None:
    """Whoever asks at that moment is told, and does not end with an error of the task group."""

    async def scenario() -> None:
        network = MemoryNetwork()
        transport = network.transport(ME)
        links = Links(ME, on_stream=ignore, on_connection=ignore, admit=ignore)
        running = asyncio.create_task(links.run([transport]))
        async with plain_links(network, OTHER) as other:
            await asyncio.sleep(0)  # both listen
            running.cancel()
            while not running.done():
                with pytest.raises((ConnectionClosed, PeerLost)):
                    await links.connect(OTHER, (other.address,))
                await asyncio.sleep(0)

    asyncio.run(scenario())
