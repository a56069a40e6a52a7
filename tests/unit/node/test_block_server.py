"""Sessions are opened over a network in memory; who grants the leases takes its time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from plain_links import Plain, plain_links
from waiting import until
from wire_samples import SERVING

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId, SessionId
from gridnode.core.spans import Span
from gridnode.errors import ErrorCode
from gridnode.net.memory import MemoryNetwork
from gridnode.net.transport import Stream
from gridnode.node.block_server import BlockServer
from gridnode.node.uplink import Uplink
from gridnode.wire.codec import encode_message
from gridnode.wire.messages import Message, NextHop, OpenSession, Refused, SessionOpened, decode_message
from gridnode.wire.messages import expect_message as expect

CLIENT, HOP, ELSEWHERE = PeerId(b"c" * 32), PeerId(b"h" * 32), PeerId(b"e" * 32)


class SlowLeases:
    """Stands for an `EngineSupervisor` that grants leases from a moment on."""

    loaded = SimpleNamespace(kv_bytes_per_token=1)

    def __init__(self) -> None:
        self.granted = asyncio.Event()
        self.freed = asyncio.Event()
        self.freed.set()
        self.num_asked = 0

    async def open_lease(self, *_: object, **__: object) -> int:
        self.num_asked += 1
        await self.granted.wait()
        return self.num_asked

    async def close_lease(self, lease: int) -> None:
        await self.freed.wait()


class Opening:
    """Asks a hop for sessions."""

    def __init__(self, client: Plain, hop: Plain, server: BlockServer, leases: SlowLeases) -> None:
        self.client = client
        self.hop = hop
        self.server = server
        self.leases = leases
        self.answers: list[Message] = []
        self._streams: list[Stream] = []

    async def ask(self, session: int, *, next_hop: NextHop | None = None) -> Stream:
        """Send what opens a session; the answer comes later."""
        connection = await self.client.links.connect(HOP, (self.hop.address,))
        stream = await connection.open_stream()
        opening = OpenSession(
            session=SessionId(session.to_bytes(16)),
            manifest=SERVING.model.manifest,
            span=Span(0, 3),
            batch=1,
            max_tokens=10,
            wait_s=60.0,
            next_hop=next_hop,
        )
        await stream.send(encode_message(opening))
        self._streams.append(stream)
        return stream

    async def answer(self, stream: Stream) -> Message:
        """Return what the hop answers first."""
        frame = await stream.receive()
        assert frame is not None
        self.answers.append(decode_message(frame))
        return self.answers[-1]

    async def answers_to(self, *sessions: int) -> list[Message]:
        """Ask for sessions all at once; grant leases when the hop has decided on all of them."""
        tasks = [asyncio.create_task(self.answer(await self.ask(session))) for session in sessions]
        await until(lambda: self.leases.num_asked + len(self.answers) == len(sessions))
        self.leases.granted.set()
        return await asyncio.gather(*tasks)


@asynccontextmanager
async def opening(*, max_sessions: int = 8) -> AsyncIterator[Opening]:
    leases = SlowLeases()
    server: BlockServer

    async def serve(stream: Stream) -> None:
        await server.serve_session(stream, expect(await stream.receive(), OpenSession))

    network = MemoryNetwork()
    async with plain_links(network, HOP, on_stream=serve) as hop, plain_links(network, CLIENT) as client:
        engine: Any = leases
        server = BlockServer(
            engine,
            hop.links,
            serving=lambda: SERVING,
            max_sessions=max_sessions,
            session_ttl_s=100.0,
            uplink=Uplink(HOP, None),
        )
        yield Opening(client, hop, server, leases)


def test_sessions_that_are_opened_together_are_no_more_than_the_limit() -> None:
    async def scenario() -> None:
        async with opening(max_sessions=2) as hop:
            answers = await hop.answers_to(*range(5))
            assert Counter(type(answer) for answer in answers) == {SessionOpened: 2, Refused: 3}
            assert {answer.code for answer in answers if isinstance(answer, Refused)} == {
                ErrorCode.NO_CAPACITY
            }
            assert len(hop.server.sessions()) == 2

    asyncio.run(scenario())


def test_a_session_takes_the_place_of_one_whose_lease_is_about_to_end() -> None:
    """The worker may be in the middle of a long prompt."""

    async def scenario() -> None:
        async with opening(max_sessions=1) as hop:
            hop.leases.freed.clear()
            hop.leases.granted.set()
            first = await hop.ask(1)
            assert isinstance(await hop.answer(first), SessionOpened)
            first.finish()
            await hop.server.places.wait_idle()
            assert isinstance(await hop.answer(await hop.ask(2)), SessionOpened)
            hop.leases.freed.set()

    asyncio.run(scenario())


def test_one_session_is_opened_once_however_often_it_is_asked_for_at_once() -> None:
    async def scenario() -> None:
        async with opening() as hop:
            answers = await hop.answers_to(7, 7, 7)
            assert Counter(type(answer) for answer in answers) == {SessionOpened: 1, Refused: 2}
            assert len(hop.server.sessions()) == 1

    asyncio.run(scenario())


def test_who_waits_for_the_end_of_sessions_waits_for_those_that_are_being_opened() -> None:
    async def scenario() -> None:
        async with opening() as hop:
            stream = await hop.ask(1)
            await until(lambda: hop.leases.num_asked)
            waiting = asyncio.create_task(hop.server.places.wait_idle())
            await asyncio.sleep(0)
            assert not waiting.done()
            hop.leases.granted.set()
            assert isinstance(await hop.answer(stream), SessionOpened)
            assert not waiting.done()
            stream.finish()
            await waiting
            assert hop.server.sessions() == ()

    asyncio.run(scenario())


def test_a_next_hop_whose_address_is_somebody_elses_is_blamed_as_lost() -> None:
    async def scenario() -> None:
        async with opening() as hop:
            hop.leases.granted.set()
            addresses: tuple[Address, ...] = (hop.client.address,)
            answer = await hop.answer(
                await hop.ask(1, next_hop=NextHop(peer_id=ELSEWHERE, addresses=addresses))
            )
            assert isinstance(answer, Refused)
            assert (answer.code, answer.blamed) == (ErrorCode.PEER_LOST, ELSEWHERE)

    asyncio.run(scenario())
