"""Sockets that a peer can find by chance, through a router that gives each of them another port.

A symmetric router gives a port for each destination, and nobody knows which one before. But a socket that has
sent to the peer has one. With 256 such sockets, a probe to a random port meets one of them with a chance of
1 in 252, and a thousand probes do so 98 times in 100 (the birthday paradox).
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import psutil

from gridnode.core.addresses import Address
from gridnode.errors import GridError
from gridnode.net.udp import Datagram, DatagramSocket, SocketAddress, bind_udp
from gridnode.wire.relay_packets import PROBE_BYTE

logger = logging.getLogger("gridnode.net.paths")

GUESS_SOCKETS = 256
"""Open at once for one peer: more would find each other sooner, and fill the tables of small routers."""

GUESSES_PER_S = 500
GUESS_S = 4.0
"""Together 2000 probes: they miss 256 of 64512 ports once in 2800 times."""

GUESSED_PORTS = range(1024, 65536)
"""What routers give."""

# Means nothing to the peer, should it arrive there.
_OPENING = bytes([PROBE_BYTE])

# Of the descriptors that this process may still open; the others are for connections and files.
_SPARE_SHARE = 0.5


class GuessedRoute(NamedTuple):
    """Straight to an address, from a socket of its own."""

    address: SocketAddress
    own_port: int
    """Of the socket on this computer."""


class GuessSockets:
    """Sockets beside the one of the node, at most `GUESS_SOCKETS`. Must be made in a running loop.

    Args:
        host: Where they are bound.
        peer: The only address that they take packets from.
        is_proof: Tells whether a packet can only come from the peer: it finds the socket that it came to.
        on_packet: Takes what comes to the socket that was found, its first packet included, and the way.
        on_batch: Called after the last packet of a wake-up.
    """

    def __init__(
        self,
        host: str,
        peer: SocketAddress,
        *,
        is_proof: Callable[[bytes], bool],
        on_packet: Callable[[bytes, GuessedRoute], None],
        on_batch: Callable[[], None],
    ) -> None:
        self.found = asyncio.Event()
        self.kept: GuessedRoute | None = None
        """The way that was found."""

        self._peer = peer
        self._is_proof = is_proof
        self._on_packet = on_packet
        self._sockets: dict[int, DatagramSocket] = {}
        for _ in range(min(GUESS_SOCKETS, _spare_descriptors())):
            try:
                sock = bind_udp(Address(host, 0))
            except (GridError, OSError) as exc:
                logger.info("only %d sockets for guesses: %s", len(self._sockets), exc)
                break
            port = sock.getsockname()[1]
            received = partial(self._received, port)
            self._sockets[port] = DatagramSocket(sock, on_datagram=received, on_batch=on_batch)

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._sockets)

    def open(self, *, hops: int | None) -> None:
        """Let the router give each socket a port, by a packet to the peer.

        Args:
            hops: Routers that it may pass; None is no limit.
        """
        for sock in self._sockets.values():
            if hops is None:
                sock.send([(_OPENING, self._peer)])
            else:
                sock.send_near(_OPENING, self._peer, hops=hops)

    def send(self, datagrams: list[Datagram], route: GuessedRoute) -> None:
        """Send from the socket of `route`, if it is still open. Datagrams may get lost."""
        if (sock := self._sockets.get(route.own_port)) is not None:
            sock.send(datagrams)

    def close(self) -> None:
        """Close all. Safe to call more than once."""
        while self._sockets:
            self._sockets.popitem()[1].close()

    def _received(self, port: int, data: bytes, source: SocketAddress) -> None:
        if port not in self._sockets or not data or source[:2] != self._peer[:2]:
            return
        if self.kept is None and self._is_proof(data):
            self._keep(port)
        if self.kept is not None:
            self._on_packet(data, self.kept)

    def _keep(self, port: int) -> None:
        """Close all sockets but the one that was found."""
        self.kept = GuessedRoute(self._peer, port)
        self.found.set()
        for other in [each for each in self._sockets if each != port]:
            self._sockets.pop(other).close()


def _spare_descriptors() -> int:
    """Return how many sockets may be opened without harm to everything else."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return GUESS_SOCKETS
    return max(0, int((allowed - psutil.Process().num_fds()) * _SPARE_SHARE))
