"""TCP for strangers: how many connections may come, and how many may be there whose peers are not known yet.

Whoever connects costs this process a descriptor, long before TLS or a greeting proves anything. So those who
are too many are dropped where connections are taken, whoever serves the others.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from gridnode.net.clock import now_s
from gridnode.net.handshake_limit import HandshakeLimit, network_of
from gridnode.net.quic_settings import QuicSettings

MAX_STRANGERS = 128
"""Connections whose peers are not known yet: a small part of the descriptors that every process may have."""

MAX_STRANGERS_PER_ADDRESS = 32
"""The same from one address, or one /64 network of IPv6: more than the rate lets come before a slow peer is
known, and too few to keep everybody else out by silence."""


class GuardedListener(socket.socket):
    """A listening socket that takes few connections of strangers, and drops the others at once.

    asyncio listens with it as with any other. The peer of a connection is a stranger until it is closed, or
    until `vouch` says otherwise.

    Args:
        listener: What to listen with; this object takes it over.
        settings: How many connections per second are taken: as many as handshakes of QUIC.
    """

    def __init__(self, listener: socket.socket, settings: QuicSettings) -> None:
        super().__init__(fileno=listener.detach())
        self._strangers: dict[socket.socket, str] = {}
        """Connections, and the networks that they come from."""

        self._limit = HandshakeLimit(
            per_s=settings.handshakes_per_s,
            per_address_per_s=settings.handshakes_per_address_per_s,
            now=now_s(),
        )

    @property
    def strangers(self) -> int:
        """How many connections of strangers there are."""
        self._forget_closed()
        return len(self._strangers)

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection and where it comes from.

        Raises:
            BlockingIOError: there is none now.
            ConnectionAbortedError: there was one too many; it is closed. asyncio does whatever else is due
                before it asks for the next one, so that a flood does not keep it here.
        """
        taken, address = super().accept()
        network = network_of(address[0])
        if self._is_full(network) or not self._limit.allows(address[0], now=now_s()):
            taken.close()
            raise ConnectionAbortedError("one stranger too many")
        self._strangers[taken] = network
        return taken, address

    def vouch(self, transport: asyncio.BaseTransport) -> None:
        """Take the news that the peer of a connection is known: somebody else counts it from now on."""
        known = transport.get_extra_info("socket").fileno()
        self._strangers = {each: at for each, at in self._strangers.items() if each.fileno() != known}

    def _is_full(self, network: str) -> bool:
        self._forget_closed()
        of_network = sum(each == network for each in self._strangers.values())
        return len(self._strangers) >= MAX_STRANGERS or of_network >= MAX_STRANGERS_PER_ADDRESS

    def _forget_closed(self) -> None:
        self._strangers = {each: at for each, at in self._strangers.items() if each.fileno() >= 0}
