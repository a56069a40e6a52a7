"""The contract of `gridnode.net.transport`, on every transport."""

from __future__ import annotations

import asyncio
import gc
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId
from gridnode.errors import (
    ConnectionClosed,
    FrameTooLarge,
    GridError,
    NoCapacity,
    PeerLost,
    ProtocolError,
    Unauthentic,
)
from gridnode.net.framed_stream import FramedStream
from gridnode.net.identity import Identity
from gridnode.net.memory import LinkQuality, MemoryNetwork
from gridnode.net.quic import QuicTransport
from gridnode.net.quic_connection import QuicConnection
from gridnode.net.quic_settings import QuicSettings
from gridnode.net.transport import Connection, Stream, Transport
from gridnode.units import KIB, MIB
from gridnode.wire.credit import CREDIT_BYTES
from gridnode.wire.frames import MAX_FRAME_BYTES, Frame

KIND = 0x10
LOOPBACK = Address("127.0.0.1", 0)
TIMEOUT_S = 10.0


class World(Protocol):
    """A kind of transport under test."""

    def make(self) -> Transport:
        """Return a new node."""

    def kill(self, transport: Transport) -> None:
        """Make a node vanish without a word."""

    def nowhere(self) -> Address:
        """Return an address where nobody listens."""


class MemoryWorld:
    def __init__(self, quality: LinkQuality | None = None) -> None:
        self._network = MemoryNetwork(seed=1, quality=quality)

    def make(self) -> Transport:
        return self._network.transport(Identity.generate().peer_id)

    def kill(self, transport: Transport) -> None:
        self._network.kill(transport.peer_id)

    def nowhere(self) -> Address:
        return Address("192.0.2.99", 1)


class LossyMemoryWorld(MemoryWorld):
    def __init__(self) -> None:
        super().__init__(LinkQuality(delay_s=0.002, jitter_s=0.003, loss=0.05, resend_s=0.01))


class QuicWorld:
    settings = QuicSettings(busy_ping_interval_s=0.2, busy_silence_limit_s=0.6, idle_timeout_s=5.0)

    def make(self) -> QuicTransport:
        return QuicTransport(Identity.generate(), LOOPBACK, settings=self.settings)

    def kill(self, transport: Transport) -> None:
        assert isinstance(transport, QuicTransport)
        transport.endpoint.vanish()

    def nowhere(self) -> Address:
        return Address("127.0.0.1", 9)


class SmallDatagramQuicWorld(QuicWorld):
    settings = QuicSettings(
        busy_ping_interval_s=0.2, busy_silence_limit_s=0.6, idle_timeout_s=5.0, largest_datagram_bytes=1200
    )


class LanesOnly(QuicTransport):
    """Every stream is a lane."""

    async def dial(self, address: Address, *, peer_id: PeerId | None, timeout_s: float) -> QuicConnection:
        return self._with_lanes(await super().dial(address, peer_id=peer_id, timeout_s=timeout_s))

    async def accept(self) -> QuicConnection:
        return self._with_lanes(await super().accept())

    def _with_lanes(self, connection: QuicConnection) -> QuicConnection:
        async def open_lane() -> FramedStream:
            connection._raise_if_gone()
            lane = await self.endpoint.open_lane(connection)
            assert lane is not None
            return lane

        connection.open_stream = open_lane  # type: ignore[method-assign,assignment]
        return connection


class LaneWorld(QuicWorld):
    def make(self) -> QuicTransport:
        return LanesOnly(Identity.generate(), LOOPBACK, settings=self.settings)


WORLDS: dict[str, Callable[[], World]] = {
    "memory": MemoryWorld,
    "memory-lossy": LossyMemoryWorld,
    "quic": QuicWorld,
    "quic-1200": SmallDatagramQuicWorld,
    "lane": LaneWorld,
}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` and see that it leaves no task behind."""

    async def checked() -> None:
        async with asyncio.timeout(60):
            await main
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []

    asyncio.run(checked())
    gc.collect()  # sockets that nobody closed warn now, and warnings are errors


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def pair(world: World) -> AsyncIterator[tuple[Connection, Connection]]:
    """Two nodes with a connection: the end that dialled, the end that accepted."""
    near, far = world.make(), world.make()
    try:
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(far.accept())
            dialled = await near.dial(far.address, peer_id=far.peer_id, timeout_s=TIMEOUT_S)
        yield dialled, accepting.result()
    finally:
        await near.aclose()
        await far.aclose()
        for transport in (near, far):
            if isinstance(transport, QuicTransport):
                assert transport.endpoint.connections == ()
                assert transport.endpoint.routes == 0


@asynccontextmanager
async def stream_pair(world: World) -> AsyncIterator[tuple[Stream, Stream]]:
    """A stream that has carried one frame: the end that opened, the end that accepted."""
    async with pair(world) as (dialled, accepted):
        near = await dialled.open_stream()
        await near.send(Frame(KIND, body=b"hello"))
        far = await accepted.accept_stream()
        assert await far.receive() == Frame(KIND, body=b"hello")
        yield near, far


async def write_raw(stream: Stream, data: bytes) -> None:
    """Send bytes that are not frames."""
    assert isinstance(stream, FramedStream)
    stream._write([data])


def test_connection_knows_both_ends(world: World) -> None:
    async def main() -> None:
        near, far = world.make(), world.make()
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(far.accept())
            dialled = await near.dial(far.address, peer_id=None, timeout_s=TIMEOUT_S)
        accepted = accepting.result()
        assert (dialled.peer_id, accepted.peer_id) == (far.peer_id, near.peer_id)
        assert (dialled.is_client, accepted.is_client) == (True, False)
        assert (dialled.address, accepted.address) == (far.address, near.address)
        assert dialled.rtt_s is not None
        await near.aclose()
        await far.aclose()

    run(main())


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


def test_stream_reset_before_its_first_frame_is_never_seen(world: World) -> None:
    async def main() -> None:
        async with pair(world) as (dialled, accepted):
            (await dialled.open_stream()).reset()
            stream = await dialled.open_stream()
            await stream.send(Frame(KIND, body=b"second"))
            assert await (await accepted.accept_stream()).receive() == Frame(KIND, body=b"second")
            await until(lambda: open_streams(dialled) == open_streams(accepted) == 1)

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


def test_dialling_nobody_ends_in_time(world: World) -> None:
    async def main() -> None:
        near = world.make()
        with pytest.raises(PeerLost, match=r"nobody answered|cannot reach"):
            await near.dial(world.nowhere(), peer_id=None, timeout_s=0.2)
        await near.aclose()

    run(main())


def test_dialling_the_wrong_peer_is_refused(world: World) -> None:
    async def main() -> None:
        near, far = world.make(), world.make()
        accepting = asyncio.create_task(far.accept())
        with pytest.raises(Unauthentic, match="answered instead of"):
            await near.dial(far.address, peer_id=PeerId(bytes(32)), timeout_s=TIMEOUT_S)
        assert not accepting.done()
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        await near.aclose()
        await far.aclose()

    run(main())


def test_cancelled_dial_leaves_nothing(world: World) -> None:
    async def main() -> None:
        near = world.make()
        dialling = asyncio.create_task(near.dial(world.nowhere(), peer_id=None, timeout_s=TIMEOUT_S))
        await asyncio.sleep(0.01)
        dialling.cancel()
        [result] = await asyncio.gather(dialling, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError)
        await near.aclose()

    run(main())


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


def test_both_ends_can_ping(world: World) -> None:
    async def main() -> None:
        async with pair(world) as ends:
            for end in ends:
                first, second = await asyncio.gather(end.ping(), end.ping())
                assert 0 <= first < TIMEOUT_S
                assert 0 <= second < TIMEOUT_S

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


def open_streams(connection: Connection) -> int:
    """Return how many streams are in the tables of `connection`."""
    count = connection.streams  # type: ignore[attr-defined]
    assert isinstance(count, int)
    return count
