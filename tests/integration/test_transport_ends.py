"""What every transport promises: both sides learn how streams and connections end."""

from __future__ import annotations

import asyncio

import pytest
from transport_worlds import KIND, TIMEOUT_S, World, open_streams, pair, run, stream_pair
from waiting import until

from gridnode.errors import (
    ConnectionClosed,
    GridError,
    PeerLost,
)
from gridnode.net.framed_stream import FramedStream
from gridnode.units import KIB
from gridnode.wire.frames import Frame


def test_finish_ends_one_direction_only(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            near.finish()
            near.finish()
            assert await far.receive() is None
            assert await far.receive() is None
            with pytest.raises(ConnectionClosed):
                await near.send(Frame(KIND))
            for _ in range(100):  # more than the credit: it must still be granted
                await far.send(Frame(KIND, body=bytes(100 * KIB)))
                assert await near.receive() is not None
            far.finish()
            assert await near.receive() is None

    run(main())


def test_finished_streams_leave_the_tables(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            near.finish()
            far.finish()
            assert await near.receive() is None
            assert await far.receive() is None
            await until(lambda: open_streams(near.connection) == open_streams(far.connection) == 0)

    run(main())


def test_reset_drops_both_directions(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            near.reset()
            near.reset()
            with pytest.raises(ConnectionClosed):
                await near.receive()
            with pytest.raises(ConnectionClosed):
                await near.send(Frame(KIND))
            with pytest.raises(PeerLost, match="dropped"):
                await far.receive()
            with pytest.raises(PeerLost, match="dropped"):
                await far.send(Frame(KIND))
            await until(lambda: open_streams(near.connection) == open_streams(far.connection) == 0)
            stream = await near.connection.open_stream()
            await stream.send(Frame(KIND, body=b"next"))
            assert await (await far.connection.accept_stream()).receive() == Frame(KIND, body=b"next")

    run(main())


def test_stream_reset_before_its_first_frame_is_never_seen(world: World) -> None:
    async def main() -> None:
        async with pair(world) as (dialled, accepted):
            (await dialled.open_stream()).reset()
            stream = await dialled.open_stream()
            await stream.send(Frame(KIND, body=b"second"))
            assert await (await accepted.accept_stream()).receive() == Frame(KIND, body=b"second")
            await until(lambda: open_streams(dialled) == open_streams(accepted) == 1)

    run(main())


def test_streams_that_were_reset_before_they_were_accepted_do_not_wait(world: World) -> None:
    async def main() -> None:
        async with pair(world) as (dialled, accepted):
            for _ in range(5):
                stream = await dialled.open_stream()
                await stream.send(Frame(KIND, body=b"never read"))
                await until(lambda: open_streams(accepted) == 1)
                stream.reset()
                await until(lambda: open_streams(dialled) == open_streams(accepted) == 0)
            stream = await dialled.open_stream()
            await stream.send(Frame(KIND, body=b"last"))
            assert await (await accepted.accept_stream()).receive() == Frame(KIND, body=b"last")

    run(main())


def test_closing_tells_both_sides_who_did_it(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            waiting = asyncio.create_task(far.receive())
            accepting = asyncio.create_task(far.connection.accept_stream())
            await asyncio.sleep(0)
            await near.connection.aclose()
            await near.connection.aclose()
            for failed in (waiting, accepting):
                with pytest.raises(PeerLost, match="closed the connection"):
                    await failed
            with pytest.raises(ConnectionClosed):
                await near.receive()
            with pytest.raises(ConnectionClosed):
                await near.connection.open_stream()
            with pytest.raises(ConnectionClosed):
                await near.connection.accept_stream()
            with pytest.raises(PeerLost):
                await far.connection.open_stream()
            await near.connection.wait_closed()
            await far.connection.wait_closed()

    run(main())


def test_frames_that_arrived_before_the_peer_left_can_be_read(world: World) -> None:
    async def main() -> None:
        async with stream_pair(world) as (near, far):
            assert isinstance(far, FramedStream)
            await near.send(Frame(KIND, body=b"last words"))
            await until(lambda: far.buffered_bytes > 0)
            await near.connection.aclose()
            await far.connection.wait_closed()
            assert await far.receive() == Frame(KIND, body=b"last words")
            with pytest.raises(PeerLost):
                await far.receive()

    run(main())


def test_killed_peer_is_noticed(world: World) -> None:
    async def main() -> None:
        near, far = world.make(), world.make()
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(far.accept())
            dialled = await near.dial(far.address, peer_id=None, timeout_s=TIMEOUT_S)
        stream = await dialled.open_stream()
        await stream.send(Frame(KIND))
        await (await accepting.result().accept_stream()).receive()
        world.kill(far)
        with pytest.raises(PeerLost):
            await stream.receive()
        await dialled.wait_closed()
        await near.aclose()
        await far.aclose()

    run(main())


def test_a_ping_fails_with_its_connection(world: World) -> None:
    async def main() -> None:
        near, far = world.make(), world.make()
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(far.accept())
            dialled = await near.dial(far.address, peer_id=far.peer_id, timeout_s=TIMEOUT_S)
        assert accepting.result().peer_id == near.peer_id
        world.kill(far)
        with pytest.raises(PeerLost):
            await dialled.ping()
        await near.aclose()
        with pytest.raises(GridError):
            await dialled.ping()
        await far.aclose()

    run(main())


def test_closed_transport_refuses_everything(world: World) -> None:
    async def main() -> None:
        transport = world.make()
        accepting = asyncio.create_task(transport.accept())
        await asyncio.sleep(0)
        await transport.aclose()
        await transport.aclose()
        with pytest.raises(ConnectionClosed):
            await accepting
        with pytest.raises(GridError):
            await transport.dial(world.nowhere(), peer_id=None, timeout_s=0.1)

    run(main())
