"""What the network layer costs on loopback: echo times, throughput and CPU, beside plain TCP.

    python benchmarks/network.py [--quick] [--congestion NAME]

Every row is measured between two processes, three times in turn with the others, and the median is shown.
CPU is that of both processes together.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

import psutil

from gridnode.core.addresses import Address
from gridnode.net.identity import Identity
from gridnode.net.lane_stream import LaneStream
from gridnode.net.quic import QuicTransport
from gridnode.net.quic_settings import QuicSettings
from gridnode.units import KIB, MIB
from gridnode.wire.frames import Frame, FrameDecoder, encode_frame

LOOPBACK = Address("127.0.0.1", 0)
KIND = 0x10
ECHO = 1  # flag of frames that are to come back
BULK_FRAME_BYTES = 256 * KIB
WARM_UP = 30

Send = Callable[[Frame], Awaitable[None]]
Receive = Callable[[], Awaitable[Frame | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to measure."""

    echoes: int
    bulk_bytes: int
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One row of the table."""

    small_p50_ms: float
    small_p99_ms: float
    large_p50_ms: float
    large_p99_ms: float
    megabytes_per_s: float
    cpu_s_per_gb: float


async def serve(send: Send, receive: Receive) -> None:
    """Return frames that ask for it; count the others, and say when the last one is there."""
    while (frame := await receive()) is not None:
        if frame.flags & ECHO:
            await send(frame)


async def measure(send: Send, receive: Receive, plan: Plan, server_cpu_s: Callable[[], float]) -> Measurement:
    """Take the times of the client."""

    async def echo(size_bytes: int) -> list[float]:
        frame = Frame(KIND, {"session": "x" * 16, "step": 1}, bytes(size_bytes), flags=ECHO)
        times_ms = []
        for _ in range(WARM_UP + plan.echoes):
            begin = time.perf_counter()
            await send(frame)
            await receive()
            times_ms.append((time.perf_counter() - begin) * 1e3)
        return sorted(times_ms[WARM_UP:])

    small, large = await echo(8 * KIB), await echo(64 * KIB)
    body = bytes(BULK_FRAME_BYTES)
    begin, cpu_s = time.perf_counter(), time.process_time() + server_cpu_s()
    for _ in range(plan.bulk_bytes // BULK_FRAME_BYTES):
        await send(Frame(KIND, body=body))
    await send(Frame(KIND, flags=ECHO))
    await receive()
    elapsed_s = time.perf_counter() - begin
    cpu_s = time.process_time() + server_cpu_s() - cpu_s
    return Measurement(
        small_p50_ms=statistics.median(small),
        small_p99_ms=small[int(len(small) * 0.99)],
        large_p50_ms=statistics.median(large),
        large_p99_ms=large[int(len(large) * 0.99)],
        megabytes_per_s=plan.bulk_bytes / elapsed_s / 1e6,
        cpu_s_per_gb=cpu_s / plan.bulk_bytes * 1e9,
    )


class TcpFrames:
    """Frames over asyncio's TCP streams, without encryption: what the machine can do at best."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []

    async def send(self, frame: Frame) -> None:
        """Send one frame."""
        self._writer.writelines(encode_frame(frame))
        await self._writer.drain()

    async def receive(self) -> Frame | None:
        """Return the next frame, or None at the end."""
        while not self._frames:
            data = await self._reader.read(256 * KIB)
            if not data:
                return None
            self._frames += self._decoder.receive_data(data)
        return self._frames.pop(0)


async def serve_tcp(pipe: Pipe) -> None:
    """Serve one connection over TCP."""
    done = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = TcpFrames(reader, writer)
        await serve(frames.send, frames.receive)
        writer.close()
        done.set()

    server = await asyncio.start_server(handle, LOOPBACK.host, 0, limit=MIB)
    pipe.send((server.sockets[0].getsockname()[1], os.getpid()))
    await done.wait()
    server.close()


async def measure_tcp(port: int, plan: Plan, cpu_s: Callable[[], float]) -> Measurement:
    """Measure TCP."""
    reader, writer = await asyncio.open_connection(LOOPBACK.host, port, limit=MIB)
    frames = TcpFrames(reader, writer)
    result = await measure(frames.send, frames.receive, plan, cpu_s)
    writer.close()
    await writer.wait_closed()
    return result


async def serve_quic(pipe: Pipe, settings: QuicSettings) -> None:
    """Serve one connection over QUIC."""
    transport = QuicTransport(Identity.generate(), LOOPBACK, settings=settings)
    pipe.send((transport.address.port, os.getpid()))
    stream = await (await transport.accept()).accept_stream()
    await serve(stream.send, stream.receive)
    stream.finish()
    await stream.connection.wait_closed()
    await transport.aclose()


async def measure_quic(
    port: int, plan: Plan, cpu_s: Callable[[], float], settings: QuicSettings, *, over_tcp: bool
) -> Measurement:
    """Measure a stream of QUIC, or a lane."""
    transport = QuicTransport(Identity.generate(), LOOPBACK, settings=settings)
    connection = await transport.dial(Address(LOOPBACK.host, port), peer_id=None, timeout_s=10)
    while connection.quic.max_datagram_bytes < settings.largest_datagram_bytes:  # noqa: ASYNC110 - only here
        await asyncio.sleep(0.01)
    stream = await (connection.open_lane() if over_tcp else connection.open_stream())
    assert isinstance(stream, LaneStream) is over_tcp
    result = await measure(stream.send, stream.receive, plan, cpu_s)
    stream.finish()
    await stream.receive()
    await transport.aclose()
    return result


def server_main(pipe: Pipe, settings: QuicSettings | None) -> None:
    """Run the server of one row in its own process."""
    asyncio.run(serve_tcp(pipe) if settings is None else serve_quic(pipe, settings))


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that another process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def measure_row(settings: QuicSettings | None, plan: Plan, *, over_tcp: bool) -> Measurement:
    """Measure one row once: QUIC with `settings` or a lane of it, or plain TCP."""
    context = multiprocessing.get_context("spawn")
    pipe, far_pipe = context.Pipe()
    server = context.Process(target=server_main, args=(far_pipe, settings))
    server.start()
    port, pid = pipe.recv()
    client = (
        measure_tcp(port, plan, lambda: cpu_of(pid))
        if settings is None
        else measure_quic(port, plan, lambda: cpu_of(pid), settings, over_tcp=over_tcp)
    )
    result = asyncio.run(client)
    server.join()
    return result


def median_of(results: list[Measurement]) -> list[float]:
    """Return the median of each column."""
    return [statistics.median(getattr(result, name) for result in results) for name in Measurement.__slots__]


def main() -> None:
    """Measure every row and print the table."""
    parser = argparse.ArgumentParser(description="Measure the network layer on loopback.")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    parser.add_argument(
        "--congestion", default=QuicSettings().congestion_control, help="congestion controller"
    )
    arguments = parser.parse_args()
    plan = (
        Plan(echoes=50, bulk_bytes=8 * MIB, rounds=1)
        if arguments.quick
        else Plan(echoes=300, bulk_bytes=64 * MIB, rounds=3)
    )
    rows: dict[str, QuicSettings | None] = {"TCP, asyncio streams, plain": None}
    # What passes everywhere, on Ethernet, with jumbo frames, and here.
    for size_bytes in (1200, 1452, 8900, 16_000):
        rows[f"QUIC, datagrams of {size_bytes} B"] = QuicSettings(
            largest_datagram_bytes=size_bytes, congestion_control=arguments.congestion
        )
    lane = "lane, TLS over TCP"
    rows[lane] = QuicSettings()
    results: dict[str, list[Measurement]] = {name: [] for name in rows}
    for _ in range(plan.rounds):
        for name, settings in rows.items():
            results[name].append(measure_row(settings, plan, over_tcp=name == lane))
    print(f"{'':28} {'8 KiB echo, ms':>16} {'64 KiB echo, ms':>16} {'bulk':>8} {'CPU':>8}")
    print(f"{'':28} {'p50':>8}{'p99':>8} {'p50':>8}{'p99':>8} {'MB/s':>8} {'s/GB':>8}")
    for name, measured in results.items():
        small50, small99, large50, large99, speed, cpu_s = median_of(measured)
        print(
            f"{name:28} {small50:8.2f}{small99:8.2f} {large50:8.2f}{large99:8.2f} {speed:8.0f} {cpu_s:8.1f}"
        )


if __name__ == "__main__":
    main()
