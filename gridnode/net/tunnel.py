"""Packets through a WebSocket, where UDP does not get through: slower, but nearly every network lets it pass.

Inside are the same packets as on UDP, so that relays and nodes are proven and encrypted as ever; TLS around
them is there for those on the way who let nothing else pass, and proves nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections import Counter, deque

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection as WebSocket
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import WebSocketException

from gridnode.core.addresses import Address
from gridnode.core.relays import tunnel_address
from gridnode.errors import PeerLost, ProtocolError
from gridnode.net.carrier import PathKind
from gridnode.net.endpoint import Endpoint
from gridnode.net.guarded_listener import GuardedListener
from gridnode.net.handshake_limit import network_of
from gridnode.net.identity import Identity
from gridnode.net.lane_tls import client_context, server_context
from gridnode.net.quic_settings import QuicSettings
from gridnode.net.relay_counters import RelayCounters
from gridnode.net.relay_limits import RelayLimits
from gridnode.net.udp import Datagram
from gridnode.units import MIB
from gridnode.wire.tunnel_messages import MAX_MESSAGE_BYTES, pack, unpack

logger = logging.getLogger("gridnode.net.tunnel")

PATH = "/relay"
OPEN_TIMEOUT_S = 5.0
# What waits for a slow TCP connection; more is dropped, as a network would.
MAX_WAITING_BYTES = MIB
MAX_WAITING_PACKETS = 1024
# Messages received and not handled yet: handling does not wait for anything.
_MAX_QUEUED_MESSAGES = 16

_NUMBERS = itertools.count(1)


class Tunnel:
    """One WebSocket as a carrier of packets; see `gridnode.net.carrier.Carrier`. Run it once, with `run`.

    Args:
        counters: Of the relay whose end it is; None at nodes.
    """

    def __init__(
        self, websocket: WebSocket, endpoint: Endpoint, *, counters: RelayCounters | None = None
    ) -> None:
        self.address = tunnel_address(next(_NUMBERS))
        self._websocket = websocket
        self._endpoint = endpoint
        self._counters = counters
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wakeup = asyncio.Event()
        host, port = websocket.remote_address[:2]
        self._real_address = Address(host.removeprefix("::ffff:"), port)
        endpoint.carry(self.address, self)

    @property
    def kind(self) -> PathKind:
        """The way that packets take."""
        return PathKind.WEBSOCKET

    @property
    def real_address(self) -> Address | None:
        """The other end of the TCP connection."""
        return self._real_address

    @property
    def direct_way(self) -> None:
        """None: TCP decides about sizes itself."""
        return

    def send(self, datagrams: list[Datagram]) -> None:
        """Send datagrams soon. They are dropped if too much waits."""
        for data, _ in datagrams:
            has_room = self._waiting_bytes + len(data) <= MAX_WAITING_BYTES
            if has_room and len(self._waiting) < MAX_WAITING_PACKETS:
                self._waiting.append(data)
                self._waiting_bytes += len(data)
            elif self._counters is not None:
                self._counters.dropped_slow_reader += 1
        self._wakeup.set()

    def doubt(self) -> None:
        """Do nothing: TCP tells when it has ended."""

    async def run(self) -> None:
        """Carry packets both ways until the WebSocket closes or this is cancelled."""
        sending = asyncio.create_task(self._send_waiting(), name="tunnel")
        try:
            async for message in self._websocket:
                if isinstance(message, str):
                    raise ProtocolError("text came through a tunnel")
                self._endpoint.receive(unpack(message), self.address)
        except (WebSocketException, ProtocolError) as exc:
            logger.debug("tunnel to %s: %s", self._real_address, exc)
        finally:
            self._endpoint.drop(self.address)
            sending.cancel()
            await asyncio.wait([sending])
            self._websocket.transport.abort()

    async def _send_waiting(self) -> None:
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            packets, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
            try:
                for message in pack(packets):
                    await self._websocket.send(message)
            except WebSocketException:
                return  # the other task sees it too


async def open_tunnel(address: Address, endpoint: Endpoint) -> Tunnel:
    """Return a tunnel to the relay at `address`.

    Raises:
        PeerLost: nobody answers there by TCP.
    """
    try:
        websocket = await connect(
            f"wss://{address}{PATH}",
            compression=None,
            max_queue=_MAX_QUEUED_MESSAGES,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            proxy=None,
            ssl=client_context(),
            user_agent_header=None,
        )
    except (OSError, WebSocketException) as exc:
        # asyncio puts the address into the text once more, as a pair.
        reason = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc)
        raise PeerLost(f"neither UDP nor TCP {address} answers ({reason or type(exc).__name__})") from None
    return Tunnel(websocket, endpoint)


class TunnelServer:
    """Takes the WebSockets of nodes at a relay. Run it once, with `run`.

    Args:
        bind: Where to listen on TCP.
        settings: How many strangers may come.
        counters: Count what is refused and dropped here.
    """

    def __init__(
        self,
        identity: Identity,
        endpoint: Endpoint,
        bind: Address,
        settings: QuicSettings,
        limits: RelayLimits,
        counters: RelayCounters,
    ) -> None:
        self._identity = identity
        self._endpoint = endpoint
        self._limits = limits
        self._counters = counters
        self._per_network: Counter[str] = Counter()
        listener = _listen(bind)
        self._listener = GuardedListener(listener, settings) if listener else None

    @property
    def is_listening(self) -> bool:
        """Whether it has the port; without, the relay works by UDP alone."""
        return self._listener is not None

    async def run(self) -> None:
        """Serve until cancelled."""
        if self._listener is None:
            return
        async with serve(
            self._serve,
            sock=self._listener,
            ssl=server_context(self._identity),
            compression=None,
            max_queue=_MAX_QUEUED_MESSAGES,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            server_header=None,
        ) as server:
            await server.serve_forever()

    async def _serve(self, websocket: ServerConnection) -> None:
        assert self._listener is not None
        network = network_of(websocket.remote_address[0])
        request = websocket.request
        if request is None or request.path != PATH or self._is_full(network):
            await websocket.close(1008)
            return
        self._per_network[network] += 1
        self._listener.vouch(websocket.transport)
        try:
            await Tunnel(websocket, self._endpoint, counters=self._counters).run()
        finally:
            self._per_network[network] -= 1
            self._per_network += Counter()  # forget networks without tunnels

    def _is_full(self, network: str) -> bool:
        """Return whether no more WebSockets are taken, from anywhere or from `network`; count that."""
        if self._per_network.total() >= self._limits.nodes:
            self._counters.refused_nodes += 1
            return True
        if self._per_network[network] >= self._limits.nodes_per_address:
            self._counters.refused_nodes_per_address += 1
            return True
        return False


def _listen(bind: Address) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    try:
        return socket.create_server(
            (bind.host, bind.port), family=family, dualstack_ipv6=family == socket.AF_INET6
        )
    except OSError as exc:
        logger.warning("no WebSockets: cannot listen on TCP %s: %s", bind, exc.strerror or exc)
        return None
