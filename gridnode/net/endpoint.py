"""One UDP socket for everything: every connection, in both roles, and packets that are not QUIC.

QUIC versions 1 and 2 set bit 0x40 of the first byte (RFC 9000, 17.2 and 17.3), so smaller first bytes
are free for probes and relays (the idea of RFC 9443). Packets find their connection by the connection
id that we chose for it, not by the address they come from: peers move.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable

from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion

from gridnode.core.addresses import Address, check_address
from gridnode.core.ids import PeerId
from gridnode.core.relays import is_peer_address, is_virtual
from gridnode.errors import BadInput, ConnectionClosed, GridError, PeerLost, ProtocolError
from gridnode.net.carrier import Carrier
from gridnode.net.clock import now_s
from gridnode.net.framed_stream import FramedStream
from gridnode.net.handshake_limit import HandshakeLimit
from gridnode.net.quic_connection import QuicConnection
from gridnode.net.quic_settings import QuicSettings
from gridnode.net.udp import Datagram, DatagramSocket, SocketAddress, from_socket_address

logger = logging.getLogger("gridnode.net.endpoint")

CONNECTION_ID_BYTES = 8
_LONG_HEADER = 0x80
QUIC_BIT = 0x40
# Long headers (RFC 9000, 17.2): first byte, version, length of the connection id, connection id.
_ID_OFFSET = 6
_VERSION = QuicProtocolVersion.VERSION_1.to_bytes(4, "big")
_PACKET_TYPE = 0x30
_INITIAL = 0x00
_KEEP_ALIVE_INTERVAL_S = 1.0

LaneOpener = Callable[[QuicConnection], Awaitable[FramedStream | None]]
"""Opens a stream beside a connection, or returns None if that cannot be now."""

RawHook = Callable[[bytes, SocketAddress], None]
"""Takes a packet whose first byte is below 0x40, and where it came from."""


class Endpoint:
    """The socket of a node and the connections on it."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        server: QuicConfiguration,
        client: QuicConfiguration,
        settings: QuicSettings,
        on_connection: Callable[[QuicConnection], None],
        open_lane: LaneOpener,
        on_raw: RawHook | None = None,
    ) -> None:
        self._server = server
        self._client = client
        self._settings = settings
        self._on_connection = on_connection
        self._open_lane = open_lane
        self.on_raw = on_raw
        self._carriers: dict[str, Carrier] = {}
        self._loop = asyncio.get_running_loop()
        self._limit = HandshakeLimit(
            per_s=settings.handshakes_per_s,
            per_address_per_s=settings.handshakes_per_address_per_s,
            now=now_s(),
        )
        self._connections: dict[QuicConnection, set[bytes]] = {}
        self._handshakes: dict[QuicConnection, None] = {}  # of peers that dial us, the oldest first
        self._by_id: dict[bytes, QuicConnection] = {}
        self._touched: dict[QuicConnection, None] = {}
        self._socket = DatagramSocket(
            sock,
            on_datagram=self._datagram_received,
            on_batch=self._batch_received,
            on_unreachable=self._found_unreachable,
            on_too_large=self._found_too_large,
        )
        self._keep_alive = self._loop.call_later(_KEEP_ALIVE_INTERVAL_S, self._keep_all_alive)

    @property
    def address(self) -> Address:
        """Where the socket is bound, with the real port."""
        return self._socket.address

    @property
    def connections(self) -> tuple[QuicConnection, ...]:
        """Every connection, those included that are still or no longer established."""
        return tuple(self._connections)

    @property
    def routes(self) -> int:
        """How many connection ids are known."""
        return len(self._by_id)

    def dial(
        self, address: Address, *, expected: PeerId | None, configuration: QuicConfiguration | None = None
    ) -> QuicConnection:
        """Begin a connection to `address` and return it before its handshake.

        Args:
            expected: Who must answer; None takes anybody.
            configuration: Other than that of all clients.
        """
        destination = self.to_socket_address(address)
        connection = QuicConnection(
            self,
            configuration or self._client,
            self._settings,
            on_established=lambda _: None,
            expected=expected,
        )
        self._add(connection, connection.quic.host_cid)
        connection.connect(destination)
        return connection

    def to_socket_address(self, address: Address) -> SocketAddress:
        """Return `address` as the socket writes it; a virtual one as its carrier is found.

        Raises:
            BadInput: the socket cannot reach it.
        """
        if not is_virtual(address.host):
            return self._socket.to_socket_address(address)
        try:
            check_address(address)  # peers say it
        except ValueError as exc:
            raise BadInput(f"{address} is no address of a peer: {exc}") from None
        return tuple(address)

    def send_raw(self, data: bytes, destination: SocketAddress, *, hops: int | None = None) -> None:
        """Send a packet that is not QUIC. It may get lost, like every datagram.

        Args:
            hops: Routers that it may pass; the default is as many as there are.
        """
        if hops is None:
            self.send([(data, destination)])
        else:
            self._socket.send_near(data, destination, hops=hops)

    def carry(self, address: Address, carrier: Carrier) -> None:
        """Give what is sent to a virtual address to `carrier` from now on."""
        self._carriers[address.host] = carrier

    def drop(self, address: Address) -> None:
        """Send nothing to a virtual address any more."""
        self._carriers.pop(address.host, None)

    def receive(self, payloads: Iterable[bytes], address: Address) -> None:
        """Take packets that came from a virtual address."""
        for data in payloads:
            self._datagram_received(data, tuple(address))
        self._batch_received()

    def receive_one(self, data: bytes, address: Address) -> None:
        """Take a packet from a virtual address that came within one from the socket."""
        self._datagram_received(data, tuple(address))

    def connections_to(self, address: Address) -> list[QuicConnection]:
        """Return the connections whose packets go to a virtual address."""
        return [each for each in self._connections if each.current_destination[:1] == address[:1]]

    def close(self, error: GridError) -> None:
        """Close every connection and the socket. Safe to call more than once."""
        self._keep_alive.cancel()
        for connection in self.connections:
            connection.close(error)
            connection.forget()
        self._socket.close()

    def vanish(self) -> None:
        """Close the socket without a word to anybody, as a killed process does."""
        self._keep_alive.cancel()
        self._socket.close()
        for connection in self.connections:
            connection.abandon(ConnectionClosed("this node closed its network socket"))

    # --- for connections: PacketCarrier ---

    @property
    def is_whole(self) -> bool:
        """Whether datagrams that are too large for the way get lost instead of being split."""
        return self._socket.is_whole

    def send(self, datagrams: list[Datagram]) -> OSError | None:
        """Send `datagrams`; return the kernel's refusal, if any."""
        if not self._carriers:
            return self._socket.send(datagrams)
        failure = None
        # Nearly always one group: a connection has one destination.
        for host, group in itertools.groupby(datagrams, key=lambda datagram: datagram[1][0]):
            if (carrier := self._carriers.get(host)) is not None:
                carrier.send(list(group))
            elif not is_virtual(host):
                failure = self._socket.send(list(group)) or failure
        return failure

    def carrier(self, destination: SocketAddress) -> Carrier | None:
        """Return what carries packets to `destination`, if it is a virtual address."""
        return self._carriers.get(destination[0])

    def plain(self, source: SocketAddress) -> SocketAddress:
        """Return `source` without the address of this computer that it sent to."""
        return self._socket.plain(source)

    def real_address(self, destination: SocketAddress) -> Address:
        """Return where packets to `destination` go now, as far as anybody knows."""
        carrier = self._carriers.get(destination[0])
        return (carrier.real_address if carrier else None) or from_socket_address(destination)

    def route(self, connection_id: bytes, connection: QuicConnection) -> None:
        """Give packets for `connection_id` to `connection`."""
        self._by_id[connection_id] = connection
        self._connections[connection].add(connection_id)

    def unroute(self, connection_id: bytes) -> None:
        """Ignore packets for `connection_id`."""
        connection = self._by_id.pop(connection_id, None)
        if connection is not None:
            self._connections[connection].discard(connection_id)

    async def open_lane(self, connection: QuicConnection) -> FramedStream | None:
        """Return a stream to the same peer over TCP, or None if there can be none now."""
        return await self._open_lane(connection)

    def forget(self, connection: QuicConnection) -> None:
        """Take everything of `connection` out of the tables."""
        for connection_id in self._connections.pop(connection, ()):
            del self._by_id[connection_id]
        self._handshakes.pop(connection, None)
        self._touched.pop(connection, None)

    # --- receiving ---

    def _found_unreachable(self, destination: SocketAddress) -> None:
        for connection in self.connections:
            if connection.sends_to(destination):
                connection.suspect()

    def _found_too_large(self, destination: SocketAddress, size_bytes: int) -> None:
        host = from_socket_address(destination).host
        for connection in self.connections:
            if connection.address.host == host:
                connection.shrink_datagrams(size_bytes)

    def _datagram_received(self, data: bytes, source: SocketAddress) -> None:
        if not data:
            return
        first = data[0]
        if not first & QUIC_BIT:
            # Bit 0x80 without 0x40 is neither ours nor QUIC.
            if self.on_raw is not None and first < QUIC_BIT:
                self.on_raw(data, source)
            return
        if first & _LONG_HEADER:
            self._long_header_received(data, source)
            return
        connection = self._by_id.get(data[1 : 1 + CONNECTION_ID_BYTES])
        if connection is not None:
            self._deliver(connection, data, source)

    def _long_header_received(self, data: bytes, source: SocketAddress) -> None:
        """Handle a packet of a handshake; it may begin a new connection."""
        connection_id = (
            data[_ID_OFFSET : _ID_OFFSET + data[_ID_OFFSET - 1]] if len(data) >= _ID_OFFSET else b""
        )
        connection = self._by_id.get(connection_id)
        if connection is not None:
            self._deliver(connection, data, source)
        elif self._is_acceptable(data, connection_id) and self._limit.allows(
            self._stranger(source), now=now_s()
        ):
            self._begin(connection_id, data, source)

    def _stranger(self, source: SocketAddress) -> str:
        """Return whose handshakes count together with one from `source`."""
        address = from_socket_address(source)
        return address.host if is_peer_address(address) else self.real_address(source).host

    def _is_acceptable(self, data: bytes, connection_id: bytes) -> bool:
        """Return whether `data` may be the first packet of a connection, and there is room for it."""
        return (
            data[0] & _PACKET_TYPE == _INITIAL
            and data[1:5] == _VERSION
            and len(connection_id) >= CONNECTION_ID_BYTES
            and len(data) >= SMALLEST_MAX_DATAGRAM_SIZE
            and (len(self._connections) < self._settings.max_connections or bool(self._handshakes))
        )

    def _begin(self, original_connection_id: bytes, data: bytes, source: SocketAddress) -> None:
        connection = QuicConnection(
            self,
            self._server,
            self._settings,
            on_established=self._shook_hands,
            original_connection_id=original_connection_id,
        )
        self._add(connection, original_connection_id, connection.quic.host_cid)
        self._handshakes[connection] = None
        self._deliver(connection, data, source)
        if not connection.quic.has_started:
            self.forget(connection)
        self._limit_handshakes()

    def _shook_hands(self, connection: QuicConnection) -> None:
        del self._handshakes[connection]
        self._on_connection(connection)

    def _limit_handshakes(self) -> None:
        """Drop the oldest handshakes without a word: who began them may be somebody else than it says."""
        settings = self._settings
        while self._handshakes and (
            len(self._handshakes) > settings.max_handshakes
            or len(self._connections) > settings.max_connections
        ):
            oldest = next(iter(self._handshakes))
            oldest.abandon(PeerLost(f"{oldest.address} did not complete its handshake before others came"))
            oldest.forget()  # also one that has failed, and only says so to late packets

    def _add(self, connection: QuicConnection, *connection_ids: bytes) -> None:
        self._connections[connection] = set()
        for connection_id in connection_ids:
            self.route(connection_id, connection)

    def _deliver(self, connection: QuicConnection, data: bytes, source: SocketAddress) -> None:
        try:
            connection.receive_datagram(data, source)
        except Exception:  # noqa: BLE001 - the edge: what a stranger sends must never stop the socket
            self._crashed(connection)
        else:
            self._touched[connection] = None

    def _batch_received(self) -> None:
        touched, self._touched = self._touched, {}
        for connection in touched:
            try:
                connection.react()
            except Exception:  # noqa: BLE001 - as above
                self._crashed(connection)

    def _crashed(self, connection: QuicConnection) -> None:
        """Drop a connection whose packets made the library fail, without another word on it."""
        logger.exception("connection to %s failed", connection.address)
        connection.abandon(ProtocolError(f"packets from {connection.address} could not be handled"))

    def _keep_all_alive(self) -> None:
        now = now_s()
        for connection in self.connections:
            connection.keep_alive(now)
        self._keep_alive = self._loop.call_later(_KEEP_ALIVE_INTERVAL_S, self._keep_all_alive)
