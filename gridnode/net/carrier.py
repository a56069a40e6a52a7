"""What carries packets to an address that no socket knows: of a peer, or of the end of a WebSocket."""

from __future__ import annotations

from collections.abc import Hashable
from enum import StrEnum
from typing import Protocol

from gridnode.core.addresses import Address
from gridnode.net.udp import Datagram


class PathKind(StrEnum):
    """How packets reach a peer, the best first."""

    DIRECT = "direct"
    """Straight to an address of it."""

    PUNCHED = "punched"
    """Straight, through holes that both sides made in their routers."""

    RELAY = "relay"
    """Through a relay, by UDP."""

    WEBSOCKET = "websocket"
    """Through a relay, by TCP, because UDP does not get through."""


RELAYED = frozenset((PathKind.RELAY, PathKind.WEBSOCKET))
"""The ways on which a relay forwards packets; also true of their names: `"relay" in RELAYED`."""


class Carrier(Protocol):
    """Sends to one virtual address, see `gridnode.core.relays`."""

    @property
    def kind(self) -> PathKind:
        """The way that packets take now."""
        ...

    @property
    def real_address(self) -> Address | None:
        """Where they go; None while nobody knows."""
        ...

    @property
    def direct_way(self) -> Hashable | None:
        """The one way that packets take now, if there is no relay on it; None otherwise."""
        ...

    def send(self, datagrams: list[Datagram]) -> None:
        """Send datagrams, all to this address. They may get lost."""
        ...

    def doubt(self) -> None:
        """Take the hint that the present way may have ended."""
        ...
