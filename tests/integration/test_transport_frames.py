"""What every transport promises: frames arrive whole and in order, whatever else happens."""

from __future__ import annotations

import asyncio
import struct

import pytest
from transport_worlds import KIND, LaneWorld, World, open_streams, pair, run, stream_pair
from waiting import until

from gridnode.errors import (
    FrameTooLarge,
    PeerLost,
    ProtocolError,
)
from gridnode.net.framed_stream import FramedStream
from gridnode.net.transport import Connection, Stream
from gridnode.units import KIB
from gridnode.wire.credit import CREDIT_BYTES
from gridnode.wire.frames import MAX_FRAME_BYTES, Frame


def test_frames_come_back_as_they_were_sent(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            frame = Frame(0xFF, {"name": "x", "numbers": [1, 2.5, None]}, bytes(range(256)), flags=7)
            await near.send(frame)
            assert await far.receive() == frame
            await far.send(frame)
            assert await near.receive() == frame
            assert near.connection.peer_id != far.connection.peer_id

    run(main())


def test_both_sides_may_open_streams(world: World) -> None:
    async def main() -> None:
        async with pair(world) as (dialled, accepted):
            for opener, other in ((dialled, accepted), (accepted, dialled)):
                stream = await opener.open_stream()
                await stream.send(Frame(KIND, body=b"x"))
                await (await other.accept_stream()).receive()

    run(main())


def test_many_streams_do_not_mix(world: World) -> None:
    async def echo(connection: Connection) -> None:
        async def serve(stream: Stream) -> None:
            while (frame := await stream.receive()) is not None:
                await stream.send(frame)
            stream.finish()

        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(serve(await connection.accept_stream()))

    async def ask(connection: Connection, number: int) -> None:
        stream = await connection.open_stream()
        for count in range(10):
            body = struct.pack("!II", number, count) * (1 + number * 50)
            await stream.send(Frame(KIND, body=body))
            reply = await stream.receive()
            assert reply is not None
            assert reply.body == body
        stream.finish()
        assert await stream.receive() is None

    async def main() -> None:
        async with pair(world) as (dialled, accepted), asyncio.TaskGroup() as group:
            group.create_task(echo(accepted))
            for number in range(20):
                group.create_task(ask(dialled, number))

    run(main())


def test_big_frame_arrives_whole(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            body = bytes(range(256)) * (5 * 4 * KIB)  # 5 MiB: more than all credit there is
            await near.send(Frame(KIND, body=memoryview(body)))
            frame = await far.receive()
            assert frame is not None
            assert frame.body == body

    run(main())


def test_oversize_frame_is_refused_and_the_stream_lives(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            with pytest.raises(FrameTooLarge):
                await near.send(Frame(KIND, body=bytes(MAX_FRAME_BYTES)))
            await near.send(Frame(KIND, body=b"still here"))
            assert await far.receive() == Frame(KIND, body=b"still here")

    run(main())


async def write_raw(stream: Stream, data: bytes) -> None:
    """Send bytes that are not frames."""
    assert isinstance(stream, FramedStream)
    stream._write([data])


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 100,
        struct.pack("!I", 1),
        struct.pack("!IBBH", 4, 0x05, 0, 0),
        b"\0\0\0\x08\x01\0\0\0\0\0\0\0",
    ],
    ids=["too large", "too short", "unknown transport frame", "empty grant"],
)
def test_garbage_ends_only_its_stream(world: World, garbage: bytes) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            await near.send(Frame(KIND, body=b"good"))
            await write_raw(near, garbage)
            assert await far.receive() == Frame(KIND, body=b"good")
            with pytest.raises(ProtocolError):
                await far.receive()
            with pytest.raises(ProtocolError):
                await far.send(Frame(KIND))
            reason = "dropped" if isinstance(world, LaneWorld) else "protocol"  # TCP carries no reason
            with pytest.raises(PeerLost, match=reason):
                await near.receive()
            other = await near.connection.open_stream()
            await other.send(Frame(KIND, body=b"alive"))
            assert await (await far.connection.accept_stream()).receive() == Frame(KIND, body=b"alive")
            await until(lambda: open_streams(near.connection) == open_streams(far.connection) == 1)

    run(main())


def test_cancelled_receive_loses_no_frame(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            for number in range(100):
                receiving = asyncio.create_task(far.receive())
                await asyncio.sleep(0)
                sending = asyncio.create_task(near.send(Frame(KIND, {"number": number})))
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                receiving.cancel()
                [result] = await asyncio.gather(receiving, return_exceptions=True)
                await sending
                frame = result if isinstance(result, Frame) else await far.receive()
                assert frame is not None
                assert frame.header == {"number": number}

    run(main())


def test_cancelled_send_sends_all_or_nothing(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            sent: list[int] = []

            async def send(number: int) -> None:
                await near.send(Frame(KIND, {"number": number}, bytes(300 * KIB)))
                sent.append(number)

            tasks = [asyncio.create_task(send(number)) for number in range(40)]
            await until(lambda: isinstance(far, FramedStream) and far.buffered_bytes >= CREDIT_BYTES)
            for task in tasks[::2]:
                task.cancel()
            received: list[int] = []
            while len(received) < 20 or len(received) < len(sent):
                frame = await far.receive()
                assert frame is not None
                assert len(frame.body) == 300 * KIB
                received.append(frame.header["number"])
            await asyncio.gather(*tasks, return_exceptions=True)
            near.finish()
            while (frame := await far.receive()) is not None:
                received.append(frame.header["number"])
            assert received == sorted(received)
            assert received == sent

    run(main())


def test_two_receivers_of_one_stream_are_a_mistake(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, _):
            first = asyncio.create_task(near.receive())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await near.receive()
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    run(main())
