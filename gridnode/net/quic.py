"""The transport that nodes use: QUIC between peers that both prove who they are."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId
from gridnode.errors import ConnectionClosed, PeerLost
from gridnode.net.aioquic_private import RECEIVE_WINDOW_BYTES, RELAY_WINDOW_BYTES
from gridnode.net.congestion import register
from gridnode.net.endpoint import CONNECTION_ID_BYTES, Endpoint, RawHook
from gridnode.net.framed_stream import CloseCode, FramedStream
from gridnode.net.identity import Identity
from gridnode.net.lanes import Lanes
from gridnode.net.listening import bind_twice
from gridnode.net.mailbox import Mailbox
from gridnode.net.quic_connection import QuicConnection
from gridnode.net.quic_driver import ALPN, RELAY_ALPN
from gridnode.net.quic_settings import QuicSettings
from gridnode.net.udp import bind_udp

# The name says nothing about the peer: who it is stands in the certificate alone.
_SERVER_NAME = "gridnode"


class QuicTransport:
    """Dials and accepts QUIC connections on one UDP port; see `gridnode.net.transport.Transport`.

    Must be made in a running loop.

    Args:
        identity: Who we are.
        bind: Where to listen; port 0 takes a free one.
        on_raw: Takes packets that are not QUIC: probes, relays.
        protocols: What peers may want to speak here: `ALPN` or `RELAY_ALPN`.
        has_lanes: Whether to listen for lanes on TCP, too.

    Raises:
        AddressInUse: another process holds the port.
        BadInput: this machine does not have the address.
    """

    def __init__(
        self,
        identity: Identity,
        bind: Address,
        *,
        settings: QuicSettings | None = None,
        on_raw: RawHook | None = None,
        protocols: Sequence[str] = (ALPN,),
        has_lanes: bool = True,
    ) -> None:
        settings = settings or QuicSettings()
        register()
        udp, tcp = bind_twice(bind) if has_lanes else (bind_udp(bind), None)
        self._peer_id = identity.peer_id
        self._settings = settings
        self._accepted: dict[str, Mailbox[QuicConnection]] = {name: Mailbox() for name in (ALPN, RELAY_ALPN)}
        self._relay_client = _configuration(identity, settings, [RELAY_ALPN], is_client=True)
        self.endpoint = Endpoint(
            udp,
            server=_configuration(identity, settings, protocols, is_client=False),
            client=_configuration(identity, settings, [ALPN], is_client=True),
            settings=settings,
            on_connection=self._accept_later,
            open_lane=self._open_lane,
            on_raw=on_raw,
        )
        self._lanes = (
            Lanes(identity, bind.host, tcp, settings, find=self._connection_to) if has_lanes else None
        )

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""
        return self._peer_id

    @property
    def address(self) -> Address:
        """Where we listen, with the real port."""
        return self.endpoint.address

    async def dial(self, address: Address, *, peer_id: PeerId | None, timeout_s: float) -> QuicConnection:
        """Connect to `address`; see `gridnode.net.transport.Transport.dial`."""
        self._accepted[ALPN].raise_if_closed()
        return await self._establish(self.endpoint.dial(address, expected=peer_id), address, timeout_s)

    async def dial_relay(
        self, address: Address, *, peer_id: PeerId | None, timeout_s: float
    ) -> QuicConnection:
        """Connect to the relay at `address`, as `dial` does to a node."""
        self._accepted[ALPN].raise_if_closed()
        connection = self.endpoint.dial(address, expected=peer_id, configuration=self._relay_client)
        return await self._establish(connection, address, timeout_s)

    async def _establish(
        self, connection: QuicConnection, address: Address, timeout_s: float
    ) -> QuicConnection:
        try:
            async with asyncio.timeout(timeout_s):
                await connection.wait_established()
        except TimeoutError:
            raise PeerLost(f"nobody answered at {address} within {timeout_s:g} s") from None
        finally:
            if not connection.is_established:
                connection.close(ConnectionClosed(f"dialling {address} was given up"))
        return connection

    async def accept(self) -> QuicConnection:
        """Return the next connection that a peer dialled; see `gridnode.net.transport.Transport.accept`."""
        return await self._accepted[ALPN].get()

    async def accept_relay_client(self) -> QuicConnection:
        """Return the next connection of a node that wants a relay. Cancelling is safe."""
        return await self._accepted[RELAY_ALPN].get()

    async def aclose(self) -> None:
        """Close every connection and the socket. Safe to call more than once."""
        error = ConnectionClosed("this node closed its network socket")
        for accepted in self._accepted.values():
            accepted.close(error)
        self.endpoint.close(error)
        if self._lanes is not None:
            await self._lanes.aclose()

    async def _open_lane(self, connection: QuicConnection) -> FramedStream | None:
        return await self._lanes.open(connection) if self._lanes is not None else None

    def _connection_to(self, peer_id: PeerId) -> QuicConnection | None:
        """Return the connection that both ends choose, if there are two: its client has the smaller id."""

        def client_id(connection: QuicConnection) -> PeerId:
            return self._peer_id if connection.is_client else connection.peer_id

        known = (link for link in self.endpoint.connections if link.is_established)
        return min((link for link in known if link.peer_id == peer_id), key=client_id, default=None)

    def _accept_later(self, connection: QuicConnection) -> None:
        accepted = self._accepted[connection.alpn]
        if len(accepted) >= self._settings.max_waiting_connections:
            connection.close(PeerLost(f"{len(accepted)} connections wait to be accepted"), CloseCode.BUSY)
        else:
            accepted.put(connection)


def _configuration(
    identity: Identity, settings: QuicSettings, protocols: Sequence[str], *, is_client: bool
) -> QuicConfiguration:
    window_bytes = RECEIVE_WINDOW_BYTES if ALPN in protocols else RELAY_WINDOW_BYTES
    return QuicConfiguration(
        alpn_protocols=list(protocols),
        certificate=identity.certificate,
        congestion_control_algorithm=settings.congestion_control,
        connection_id_length=CONNECTION_ID_BYTES,
        idle_timeout=settings.idle_timeout_s,
        is_client=is_client,
        max_data=window_bytes,
        max_datagram_size=settings.datagram_bytes,
        max_stream_data=window_bytes,
        private_key=identity.private_key,
        server_name=_SERVER_NAME,
        supported_versions=[QuicProtocolVersion.VERSION_1],
        # There is no authority to ask: `QuicConnection` checks the certificate itself.
        verify_mode=ssl.CERT_NONE,
    )
