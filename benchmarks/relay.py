"""What a relay costs on loopback: bytes forwarded for each second of its processor, beside a bare loop.

    python benchmarks/relay.py [--quick]

The relay is a process of its own; two registered nodes are in this one, and one sends the other packets of
1200 bytes as fast as it can. The bare relay does the same with two blocking system calls a packet.
Medians of several turns, taken alternately. A relay drops what comes faster than it can forward.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import socket
import statistics
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe

import psutil

from gridnode.core.addresses import Address
from gridnode.core.relays import Relay, peer_tag
from gridnode.net.identity import Identity
from gridnode.net.path_router import PathRouter
from gridnode.net.quic import QuicTransport
from gridnode.net.relay_limits import RelayLimits
from gridnode.net.relay_link import RelayLink
from gridnode.net.relay_service import RelayService
from gridnode.units import GIB, MIB
from gridnode.wire.relay_packets import forward

LOOPBACK = Address("127.0.0.1", 0)
PAYLOAD = bytes(1200)
BATCH_PACKETS = 32
SECONDS = 3.0
ROUNDS = 5


async def relay(pipe: Pipe) -> None:
    """Run a relay without limits; tell how much it has forwarded whenever asked."""
    limits = RelayLimits(node_bytes_per_s=100 * GIB, total_bytes_per_s=100 * GIB)
    service = RelayService(Identity.generate(), LOOPBACK, limits)
    running = asyncio.create_task(service.run())
    pipe.send(service.address.port)
    while await asyncio.to_thread(pipe.recv):
        pipe.send(service.server.counters.bytes)
    running.cancel()
    await asyncio.wait([running])


def run_relay(pipe: Pipe) -> None:
    """Run the relay of the benchmark."""
    asyncio.run(relay(pipe))


def run_bare(pipe: Pipe) -> None:
    """Forward what comes to the last who said nothing, one system call after the other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
        sock.bind((LOOPBACK.host, 0))
        pipe.send(sock.getsockname()[1])
        _, receiver = sock.recvfrom(2048)
        forwarded_bytes = 0
        while True:
            data, source = sock.recvfrom(2048)
            if source != receiver:
                sock.sendto(data, receiver)
                forwarded_bytes += len(data)
            elif data == b"how much":
                pipe.send(forwarded_bytes)
            else:
                return


def megabytes_per_cpu_s(process: psutil.Process, forwarded_bytes: Callable[[], int]) -> Callable[[], float]:
    """Return a function that tells what `process` has forwarded since now, for each second of CPU."""

    def cpu_s() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    bytes_before, cpu_before = forwarded_bytes(), cpu_s()
    return lambda: (forwarded_bytes() - bytes_before) / (cpu_s() - cpu_before) / 1e6


async def measure_relay(port: int, pipe: Pipe, pid: int, seconds: float) -> float:
    """Return MB per CPU second of the relay at `port`."""

    def forwarded_bytes() -> int:
        pipe.send(True)
        count: int = pipe.recv()
        return count

    async with contextlib.AsyncExitStack() as stack:
        transports, tasks = [], []
        for _ in range(2):
            transport = QuicTransport(Identity.generate(), LOOPBACK)
            stack.push_async_callback(transport.aclose)
            router = PathRouter(transport.endpoint, transport.peer_id)
            stack.callback(router.close)
            link = RelayLink(
                Relay(LOOPBACK.host, port),
                transport,
                router,
                tags=lambda: ("benchmark",),
                on_members=lambda *_: None,
                on_change=lambda: None,
                is_alone=lambda: False,
            )
            tasks.append(asyncio.create_task(link.run()))
            await link.wait_settled()
            assert link.home is not None, link.problem
            transports.append(transport)
        sender, receiver = transports
        packet = (forward(peer_tag(receiver.peer_id), PAYLOAD), (LOOPBACK.host, port))
        ends_at = asyncio.get_running_loop().time() + seconds
        result = megabytes_per_cpu_s(psutil.Process(pid), forwarded_bytes)
        while asyncio.get_running_loop().time() < ends_at:
            sender.endpoint.send([packet] * BATCH_PACKETS)
            await asyncio.sleep(0)
        speed = result()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return speed


async def measure_bare(port: int, pipe: Pipe, pid: int, seconds: float) -> float:
    """Return MB per CPU second of the bare loop at `port`."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind((LOOPBACK.host, 0))
        receiver.sendto(b"here", (LOOPBACK.host, port))

        def forwarded_bytes() -> int:
            receiver.sendto(b"how much", (LOOPBACK.host, port))
            count: int = pipe.recv()
            return count

        result = megabytes_per_cpu_s(psutil.Process(pid), forwarded_bytes)
        ends_at = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < ends_at:
            for _ in range(BATCH_PACKETS):
                sender.sendto(PAYLOAD, (LOOPBACK.host, port))
        speed = result()
        receiver.sendto(b"enough", (LOOPBACK.host, port))
        return speed


def measure(is_bare: bool, seconds: float) -> float:
    """Measure one of both in a process of its own."""
    context = multiprocessing.get_context("spawn")
    pipe, far_pipe = context.Pipe()
    process = context.Process(target=run_bare if is_bare else run_relay, args=(far_pipe,))
    process.start()
    assert process.pid is not None
    take = measure_bare if is_bare else measure_relay
    speed = asyncio.run(take(pipe.recv(), pipe, process.pid, seconds))
    if not is_bare:
        pipe.send(False)
    process.join()
    return speed


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Measure what a relay costs.")
    parser.add_argument("--quick", action="store_true", help="one short turn, to see that it works")
    is_quick = parser.parse_args().quick
    results: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(1 if is_quick else ROUNDS):
        for is_bare, speeds in results.items():
            speeds.append(measure(is_bare, 0.5 if is_quick else SECONDS))
    print(f"{'packets of 1200 bytes':32} {'MB per second of one core':>28}")
    for is_bare, speeds in results.items():
        name = "a bare loop of system calls" if is_bare else "gridnode relay"
        print(f"{name:32} {statistics.median(speeds):28.0f}")


if __name__ == "__main__":
    main()
