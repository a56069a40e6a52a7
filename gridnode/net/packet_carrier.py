"""What a QUIC connection needs of the socket that it shares with others."""

from __future__ import annotations

from typing import Protocol, TypeVar

from gridnode.core.addresses import Address
from gridnode.net.carrier import Carrier
from gridnode.net.framed_stream import FramedStream
from gridnode.net.udp import Datagram, SocketAddress

_Connection = TypeVar("_Connection", contravariant=True)


class PacketCarrier(Protocol[_Connection]):
    """Carries the packets of connections."""

    @property
    def is_whole(self) -> bool:
        """Whether datagrams that are too large for the way get lost instead of being split."""
        ...

    def send(self, datagrams: list[Datagram]) -> OSError | None:
        """Send `datagrams`; return the kernel's refusal, if any."""
        ...

    def route(self, connection_id: bytes, connection: _Connection) -> None:
        """Give packets for `connection_id` to `connection`."""
        ...

    def unroute(self, connection_id: bytes) -> None:
        """Ignore packets for `connection_id`."""
        ...

    async def open_lane(self, connection: _Connection) -> FramedStream | None:
        """Return a stream to the same peer over TCP, or None if there can be none now."""
        ...

    def forget(self, connection: _Connection) -> None:
        """Take everything of `connection` out of the tables."""
        ...

    def carrier(self, destination: SocketAddress) -> Carrier | None:
        """Return what carries packets to `destination`, if it is a virtual address."""
        ...

    def real_address(self, destination: SocketAddress) -> Address:
        """Return where packets to `destination` go now, as far as anybody knows."""
        ...
