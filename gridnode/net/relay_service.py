"""A relay with its ports: what `gridnode relay` runs, and a node that is one beside its work."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from gridnode.core.addresses import Address
from gridnode.core.ids import short
from gridnode.errors import GridError, ProtocolError
from gridnode.net.identity import Identity
from gridnode.net.path_router import PathRouter
from gridnode.net.quic import QuicTransport
from gridnode.net.quic_connection import QuicConnection
from gridnode.net.quic_driver import RELAY_ALPN
from gridnode.net.quic_settings import QuicSettings
from gridnode.net.relay_counters import RelayCounters
from gridnode.net.relay_limits import RelayLimits
from gridnode.net.relay_server import RelayServer
from gridnode.net.tunnel import TunnelServer
from gridnode.wire.relay_messages import Register, decode_relay_message

logger = logging.getLogger("gridnode.net.relay")

# A node that connects says at once what it wants, and goes when it has no registration any more.
REGISTER_TIMEOUT_S = 10.0
# Connections beyond those of registered nodes: some come while others go.
SPARE_CONNECTIONS = 64


class RelayService:
    """A relay that listens once it is made. Run it once, with `run`. Must be made in a running loop.

    Args:
        counters: Where it counts; its own if there are none.

    Raises:
        AddressInUse: another process holds the port.
        BadInput: this machine does not have the address.
    """

    def __init__(
        self,
        identity: Identity,
        listen: Address,
        limits: RelayLimits,
        *,
        counters: RelayCounters | None = None,
    ) -> None:
        settings = replace(QuicSettings(), max_connections=limits.nodes + SPARE_CONNECTIONS)
        self._transport = QuicTransport(
            identity, listen, settings=settings, protocols=(RELAY_ALPN,), has_lanes=False
        )
        self.server = RelayServer(self._transport.endpoint, limits, counters or RelayCounters())
        self._tunnels = TunnelServer(
            identity,
            self._transport.endpoint,
            Address(listen.host, self._transport.address.port),
            settings,
            limits,
            self.server.counters,
        )
        self._router = PathRouter(self._transport.endpoint, identity.peer_id, server=self.server)

    @property
    def address(self) -> Address:
        """Where it listens, with the real port."""
        return self._transport.address

    @property
    def has_tunnels(self) -> bool:
        """Whether it takes WebSockets too."""
        return self._tunnels.is_listening

    async def run(self) -> None:
        """Serve nodes until cancelled; then close every connection and the ports."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tunnels.run(), name="tunnels")
                while True:
                    connection = await self._transport.accept_relay_client()
                    group.create_task(self._serve(connection), name=f"relay {short(connection.peer_id)}")
        finally:
            self._router.close()
            await self._transport.aclose()

    async def _serve(self, connection: QuicConnection) -> None:
        try:
            async with asyncio.timeout(REGISTER_TIMEOUT_S):
                stream = await connection.accept_stream()
                frame = await stream.receive()
            message = decode_relay_message(frame) if frame else None
            if not isinstance(message, Register):
                raise ProtocolError("a relay is there to register with")
            await self.server.serve(stream, message)
            async with asyncio.timeout(REGISTER_TIMEOUT_S):  # a refusal is still to be read
                await connection.wait_closed()
        except* (GridError, TimeoutError) as errors:
            logger.debug("%s: %s", connection.address, errors.exceptions[0])
        finally:
            await connection.aclose()
