"""An Internet in userspace: a TUN device in each attached namespace, with delay, rate and loss. Linux, root.

`internet.py JSON` takes a list of links, prints `ready` once they are up, and routes until it is killed:

    [{"namespace": "x", "device": "wan", "address": "203.0.113.2", "delay_s": 0.01, "mbit_per_s": 100,
      "loss": 0.0}, ...]

Packets find their link by their destination. They pass `HOPS` routers on the way, and are lost if their hop
limit does not allow that many.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import ipaddress
import itertools
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOPS = 4
MTU = 1500
QUEUE_S = 0.05
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x1, 0x1000
_READS = 32


@dataclass(slots=True)
class Link:
    """What leads from one namespace to the Internet."""

    descriptor: int
    delay_s: float
    mbit_per_s: float
    loss: float
    up_free_at: float = 0.0
    down_free_at: float = 0.0


def open_tun(namespace: str, device: str) -> int:
    """Return the descriptor of a new TUN device in a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    assert libc.setns(there, _CLONE_NEWNET) == 0, f"cannot enter {namespace}"
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI))
    assert libc.setns(here, _CLONE_NEWNET) == 0
    os.close(here)
    os.close(there)
    return descriptor


def attach(spec: dict[str, Any]) -> Link:
    """Make the link that `spec` describes."""
    namespace, device, address = spec["namespace"], spec["device"], spec["address"]
    descriptor = open_tun(namespace, device)
    version = ["-6"] if ":" in address else []
    bits = "128" if version else "32"
    for command in (
        ["addr", "add", f"{address}/{bits}", "dev", device, *(["nodad"] if version else [])],
        ["link", "set", device, "mtu", str(MTU), "txqueuelen", "1000", "up"],
        ["route", "add", "default", "dev", device],
    ):
        subprocess.run(["ip", *version, "-n", namespace, *command], check=True)
    return Link(descriptor, spec.get("delay_s", 0.0), spec.get("mbit_per_s", 0.0), spec.get("loss", 0.0))


def destination(packet: bytes) -> bytes | None:
    """Return where a packet wants to go; None if it does not get that far."""
    version = packet[0] >> 4
    if version == 4 and len(packet) >= 20:
        return packet[16:20] if packet[8] > HOPS else None
    if version == 6 and len(packet) >= 40:
        return packet[24:40] if packet[7] > HOPS else None
    return None


def route(links: dict[bytes, Link]) -> None:
    """Carry packets for ever."""
    by_descriptor = {link.descriptor: link for link in links.values()}
    travelling: list[tuple[float, int, Link, bytes]] = []
    numbers = itertools.count()
    while True:
        now = time.monotonic()
        while travelling and travelling[0][0] <= now:
            _, _, link, packet = heapq.heappop(travelling)
            with contextlib.suppress(OSError):  # the device went down
                os.write(link.descriptor, packet)
        timeout_s = max(0.0, travelling[0][0] - time.monotonic()) if travelling else None
        for descriptor in select.select(list(by_descriptor), [], [], timeout_s)[0]:
            source = by_descriptor[descriptor]
            for _ in range(_READS):
                try:
                    packet = os.read(descriptor, 65536)
                except OSError:
                    break
                target = links.get(destination(packet) or b"")
                arrives_at = _travel(source, target, len(packet)) if target else None
                if target and arrives_at is not None:
                    heapq.heappush(travelling, (arrives_at, next(numbers), target, packet))


def _travel(source: Link, target: Link, size_bytes: int) -> float | None:
    """Return when a packet arrives; None if it is lost."""
    at = time.monotonic()
    if random.random() < source.loss + target.loss:
        return None
    if source.mbit_per_s:
        start = max(source.up_free_at, at)
        if start - at > QUEUE_S:
            return None
        source.up_free_at = at = start + size_bytes * 8e-6 / source.mbit_per_s
    at += source.delay_s
    if target.mbit_per_s:
        start = max(target.down_free_at, at)
        if start - at > QUEUE_S:
            return None
        target.down_free_at = at = start + size_bytes * 8e-6 / target.mbit_per_s
    return at + target.delay_s


def main() -> None:
    """Read the links from the command line and route."""
    specs = json.loads(sys.argv[1])
    assert Path("/dev/net/tun").exists(), "there is no /dev/net/tun"
    links = {ipaddress.ip_address(spec["address"]).packed: attach(spec) for spec in specs}
    print("ready", flush=True)
    route(links)


if __name__ == "__main__":
    main()
