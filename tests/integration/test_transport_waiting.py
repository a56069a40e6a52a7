"""What every transport promises: who is too fast waits, and nobody else does."""

from __future__ import annotations

import asyncio

import pytest
from transport_worlds import KIND, WORLDS, World, open_streams, pair, run, stream_pair
from waiting import until

from gridnode.errors import (
    NoCapacity,
    PeerLost,
)
from gridnode.net.framed_stream import FramedStream
from gridnode.net.transport import Stream
from gridnode.units import KIB, MIB
from gridnode.wire.credit import CREDIT_BYTES
from gridnode.wire.frames import Frame


def test_sender_waits_for_a_slow_reader(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            assert isinstance(far, FramedStream)
            body = bytes(100 * KIB)
            sent = 0

            async def send_all() -> None:
                nonlocal sent
                for _ in range(120):
                    await near.send(Frame(KIND, body=body))
                    sent += 1
                near.finish()

            async with asyncio.TaskGroup() as group:
                group.create_task(send_all())
                await until(lambda: far.buffered_bytes >= CREDIT_BYTES)
                for _ in range(50):
                    await asyncio.sleep(0)
                # Credit, and the one frame that may overdraw it.
                assert far.buffered_bytes <= CREDIT_BYTES + 101 * KIB
                assert sent * len(body) <= CREDIT_BYTES + MIB
                received = 0
                while await far.receive() is not None:
                    received += 1
                assert received == sent == 120

    run(main())


def test_slow_stream_does_not_hold_up_others(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            flood = asyncio.create_task(flood_stream(near))
            await until(lambda: isinstance(far, FramedStream) and far.buffered_bytes >= CREDIT_BYTES)
            other = await near.connection.open_stream()
            await other.send(Frame(KIND, body=b"urgent"))
            accepted = await far.connection.accept_stream()
            assert await accepted.receive() == Frame(KIND, body=b"urgent")
            flood.cancel()
            await asyncio.gather(flood, return_exceptions=True)

    async def flood_stream(stream: Stream) -> None:
        while True:
            await stream.send(Frame(KIND, body=bytes(64 * KIB)))

    run(main())


def test_reset_wakes_a_sender_without_credit(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):

            async def flood() -> None:
                while True:
                    await near.send(Frame(KIND, body=bytes(64 * KIB)))

            task = asyncio.create_task(flood())
            await until(lambda: isinstance(far, FramedStream) and far.buffered_bytes >= CREDIT_BYTES)
            far.reset()
            with pytest.raises(PeerLost):
                await task

    run(main())


# Without room for a lane, a stream is one of QUIC.
@pytest.mark.parametrize("world", [name for name in WORLDS if name != "lane"], indirect=True)
def test_too_many_streams_are_refused_until_some_end(world: World) -> None:
    async def main() -> None:
        async with pair(world) as (dialled, accepted):
            streams = [await dialled.open_stream() for _ in range(128)]
            with pytest.raises(NoCapacity, match="128 streams"):
                await dialled.open_stream()
            for stream in streams[:70]:
                await stream.send(Frame(KIND))
                stream.finish()
                other = await accepted.accept_stream()
                await other.receive()
                other.finish()
                assert await stream.receive() is None

            await until(lambda: open_streams(dialled) == 58)
            # The news that there is room again travels with what the peer sends next.
            reply = await accepted.open_stream()
            await reply.send(Frame(KIND))
            await (await dialled.accept_stream()).receive()
            await dialled.open_stream()

    run(main())
