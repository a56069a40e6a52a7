"""Datagrams are as large as the network between two nodes allows; that it shrinks is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nat_lab import inside
from network_lab import Host, NetworkLab, ip, why_not
from waiting import until

from gridnode.core.addresses import Address
from gridnode.net.identity import Identity
from gridnode.net.quic import QuicTransport
from gridnode.net.quic_connection import QuicConnection
from gridnode.units import KIB
from gridnode.wire.frames import Frame

pytestmark = [pytest.mark.netlab, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

LEFT, RIGHT = "192.168.1.2", "192.168.2.2"
KIND = 0x10
FRAME_BYTES = 64 * KIB
NUM_FRAMES = 200
# What is promised when the network shrinks: "a few seconds", on a computer that is busy.
STALL_S = 10.0
_CLONE_NEWNET = 0x40000000


class RoutedPair:
    """Two computers with a router between."""

    def __init__(self, lab: NetworkLab, mtu: int) -> None:
        self.left, self.right = lab.host("left"), lab.host("right")
        self.router = lab.namespace("router")
        for host, network in ((self.left, "192.168.1"), (self.right, "192.168.2")):
            names = ("eth0", "netns", host.namespace, "type", "veth", "peer", "name", host.name)
            ip("link", "add", *names, "netns", self.router)
            ip("-n", self.router, "addr", "add", f"{network}.1/24", "dev", host.name)
            ip("-n", self.router, "link", "set", host.name, "mtu", str(mtu), "up")
            host.ip("addr", "add", f"{network}.2/24", "dev", "eth0")
            host.ip("link", "set", "eth0", "mtu", str(mtu), "up")
            host.ip("route", "add", "default", "via", f"{network}.1")
        inside(self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def shrink(self, mtu: int) -> None:
        """Let the link behind the router take packets of `mtu` bytes only; its far end does not know."""
        ip("-n", self.router, "link", "set", "right", "mtu", str(mtu))

    def be_silent(self) -> None:
        """Let the router drop what is too large without telling anybody."""
        rule = "add chain ip filter out { type filter hook output priority 0; }"
        inside(self.router, "nft", "add table ip filter")
        inside(self.router, "nft", rule)
        inside(self.router, "nft", "add rule ip filter out icmp type destination-unreachable drop")


@contextlib.contextmanager
def on(host: Host) -> Iterator[None]:
    """Let this thread make its sockets on `host`: they stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{host.namespace}", os.O_RDONLY)
    try:
        assert libc.setns(there, _CLONE_NEWNET) == 0
        yield
    finally:
        assert libc.setns(here, _CLONE_NEWNET) == 0
        os.close(here)
        os.close(there)


@contextlib.asynccontextmanager
async def connected(pair: RoutedPair) -> AsyncIterator[tuple[QuicConnection, QuicConnection]]:
    """Yield both ends of a connection from the left to the right."""
    transports = []
    for host, address in ((pair.left, LEFT), (pair.right, RIGHT)):
        with on(host):
            transports.append(QuicTransport(Identity.generate(), Address(address, 0), has_lanes=False))
    left, right = transports
    try:
        dialled = await left.dial(right.address, peer_id=right.peer_id, timeout_s=10)
        yield dialled, await right.accept()
    finally:
        await left.aclose()
        await right.aclose()


@pytest.mark.parametrize(("mtu", "size_bytes"), [(1280, 1200), (1400, 1350), (1500, 1452), (9000, 8900)])
def test_datagrams_fill_what_the_link_takes(tmp_path: Path, mtu: int, size_bytes: int) -> None:
    async def main(pair: RoutedPair) -> None:
        async with connected(pair) as ends:
            for end in ends:
                await until(lambda end=end: end.quic.max_datagram_bytes == size_bytes)
                await end.ping()
            assert [end.quic.max_datagram_bytes for end in ends] == [size_bytes] * 2

    with NetworkLab(tmp_path) as lab:
        asyncio.run(main(RoutedPair(lab, mtu)))


@pytest.mark.parametrize("is_silent", [False, True], ids=["told", "silent"])
@pytest.mark.parametrize("mtu", [1500, 9000])
def test_a_link_that_shrinks_in_the_middle_of_a_transfer_delivers_everything(
    tmp_path: Path, mtu: int, is_silent: bool
) -> None:
    async def main(pair: RoutedPair) -> None:
        async with connected(pair) as (dialled, accepted):
            await until(lambda: dialled.quic.max_datagram_bytes > 1400)
            stream = await dialled.open_stream()

            async def send_all() -> None:
                for number in range(NUM_FRAMES):
                    await stream.send(Frame(KIND, {"number": number}, bytes(FRAME_BYTES)))
                stream.finish()

            async with asyncio.TaskGroup() as group:
                group.create_task(send_all())
                arriving = await accepted.accept_stream()
                numbers, longest_s, before = [], 0.0, time.monotonic()
                while (frame := await arriving.receive()) is not None:
                    numbers.append(frame.header["number"])
                    longest_s, before = max(longest_s, time.monotonic() - before), time.monotonic()
                    if len(numbers) == NUM_FRAMES // 4:
                        pair.shrink(1280)
            assert numbers == list(range(NUM_FRAMES))
            assert dialled.quic.max_datagram_bytes == 1200
            assert longest_s < STALL_S
            word = "silent" if is_silent else "told"
            print(f"\n{mtu} -> 1280 ({word}): nothing arrived for at most {longest_s:.2f} s")

    with NetworkLab(tmp_path) as lab:
        pair = RoutedPair(lab, mtu)
        if is_silent:
            pair.be_silent()
        asyncio.run(main(pair))
