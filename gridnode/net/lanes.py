"""Lanes: streams on TCP connections of their own, beside the QUIC connection of the same two nodes.

In Python a lane carries ten times what QUIC does, and answers four times as fast; so it is used on the local
network, for much data and for many small steps. It listens on TCP at the number of the UDP port.

A lane begins with TLS 1.3, in which the one that listens proves with its certificate who it is. Python's
`ssl` does not ask for certificates that no authority signed, so the one that dials proves itself in a
greeting: it gets 32 random bytes, and signs them with the id of the one that listens, so that the
signature counts nowhere else. Only a node that has a QUIC connection may have lanes; they end with it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import logging
import secrets
import socket
from collections.abc import Callable
from weakref import WeakKeyDictionary

from cryptography import x509

from gridnode.core.addresses import Address
from gridnode.core.ids import PEER_ID_BYTES, PeerId, short
from gridnode.errors import GridError, PeerLost, Unauthentic
from gridnode.net.carrier import PathKind
from gridnode.net.certificate import peer_id_of
from gridnode.net.clock import now_s
from gridnode.net.guarded_listener import GuardedListener
from gridnode.net.identity import Identity, verify_signature
from gridnode.net.interfaces import has_address
from gridnode.net.lane_stream import LaneProtocol, LaneStream
from gridnode.net.lane_tls import client_context, server_context
from gridnode.net.quic_connection import QuicConnection
from gridnode.net.quic_settings import QuicSettings
from gridnode.net.transport import Connection

logger = logging.getLogger("gridnode.net.lanes")

MAX_LANES = 256
"""Lanes at once, those in their greeting included: each is a socket, and about 100 kB of TLS buffers."""

MAX_LANES_PER_PEER = 64
"""As many sessions as a peer may run through this node at the same time, and some more."""

DIAL_TIMEOUT_S = 0.5
"""For TCP, TLS and greeting. On a local network they take milliseconds; a firewall lets us wait."""

GREETING_TIMEOUT_S = 3.0
"""Time that a stranger has to say who it is."""

AVOID_S = 60.0
"""How long a peer is not tried again, after a lane to it could not be opened or broke."""

UNACKED_TIMEOUT_S = 5.0
"""A lane is lost when bytes are not acknowledged for so long (RFC 5482), as after a change of address."""

CHECK_INTERVAL_S = 0.25
"""How often open lanes are checked for addresses that are gone."""

_NONCE_BYTES = 32
_SIGNATURE_BYTES = 64
_ACCEPTED = b"\x01"
_CONTEXT = b"gridnode lane 1\x00"

FindConnection = Callable[[PeerId], QuicConnection | None]


class Lanes:
    """The lanes of a node, in both directions.

    Args:
        host: Where the node listens.
        listener: For TCP at the number of the UDP port; without one only this node opens lanes.
        find: Returns the QUIC connection to a peer that its lanes belong to, or None.
    """

    def __init__(
        self,
        identity: Identity,
        host: str,
        listener: socket.socket | None,
        settings: QuicSettings,
        *,
        find: FindConnection,
    ) -> None:
        self._identity = identity
        self._find = find
        self._numbers = itertools.count(1)
        self._avoided_until: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        self._open: set[LaneProtocol] = set()
        self._greetings: set[asyncio.Task[None]] = set()
        self._client = client_context()
        self._checking: asyncio.TimerHandle | None = None
        # From where QUIC sends, too: the peer drops lanes that come from elsewhere.
        self._source = None if ipaddress.ip_address(host).is_unspecified else (host, 0)
        self._listener = GuardedListener(listener, settings) if listener else None
        self._serving = (
            asyncio.get_running_loop().create_task(self._serve(self._listener)) if self._listener else None
        )

    async def open(self, connection: QuicConnection) -> LaneStream | None:
        """Return a new lane of `connection`, or None if there can be none now. Cancelling is safe."""
        address = connection.address
        is_local = connection.path is PathKind.DIRECT and _is_local(address)
        if not is_local or self._avoided_until.get(connection, 0.0) > now_s():
            return None
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                return await self._dial(connection, address)
        except (OSError, TimeoutError, GridError) as exc:
            logger.debug("no lane to %s at %s: %s", short(connection.peer_id), address, exc)
            self._avoid(connection)
            return None

    async def aclose(self) -> None:
        """Stop listening and drop every lane. Safe to call more than once."""
        tasks = [*self._greetings, *([self._serving] if self._serving else [])]
        for task in tasks:
            task.cancel()
        if self._checking is not None:
            self._checking.cancel()
        for protocol in list(self._open):
            protocol.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    # --- dialling ---

    async def _dial(self, connection: QuicConnection, address: Address) -> LaneStream:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(
            lambda: LaneProtocol(on_lost=self._forget),
            *address,
            ssl=self._client,
            local_addr=self._source,
        )
        self._open.add(protocol)
        try:
            der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            peer_id_of([x509.load_der_x509_certificate(der)], expected=connection.peer_id)
            nonce = await protocol.read_greeting(_NONCE_BYTES)
            signature = self._identity.sign(_claim(connection.peer_id, nonce))
            transport.write(self._identity.peer_id + signature)
            if await protocol.read_greeting(len(_ACCEPTED)) != _ACCEPTED:
                raise PeerLost("the peer refused the lane")
            return self._begin(protocol, connection, is_ours=True)
        except BaseException:
            transport.abort()
            raise

    # --- listening ---

    async def _serve(self, listener: GuardedListener) -> None:
        context = server_context(self._identity)
        server = await asyncio.get_running_loop().create_server(
            self._accept, sock=listener, ssl=context, ssl_handshake_timeout=GREETING_TIMEOUT_S
        )
        async with server:
            await server.serve_forever()

    def _accept(self) -> LaneProtocol:
        return LaneProtocol(on_made=self._made, on_lost=self._forget)

    def _made(self, protocol: LaneProtocol) -> None:
        if len(self._open) >= MAX_LANES:
            protocol.transport.abort()
            return
        self._open.add(protocol)
        task = asyncio.get_running_loop().create_task(self._greet(protocol), name="lane greeting")
        self._greetings.add(task)
        task.add_done_callback(self._greetings.discard)

    async def _greet(self, protocol: LaneProtocol) -> None:
        assert self._listener is not None
        try:
            async with asyncio.timeout(GREETING_TIMEOUT_S):
                nonce = secrets.token_bytes(_NONCE_BYTES)
                protocol.transport.write(nonce)
                peer_id = PeerId(await protocol.read_greeting(PEER_ID_BYTES))
                signature = await protocol.read_greeting(_SIGNATURE_BYTES)
                connection = self._check(peer_id, signature, nonce)
                self._listener.vouch(protocol.transport)
                protocol.transport.write(_ACCEPTED)
                await protocol.wait_data()  # a stream is known here once a frame was sent
            self._begin(protocol, connection, is_ours=False)
        except (GridError, TimeoutError) as exc:
            logger.debug("lane refused: %s", exc)
            protocol.transport.abort()
        except BaseException:
            protocol.transport.abort()
            raise

    def _check(self, peer_id: PeerId, signature: bytes, nonce: bytes) -> QuicConnection:
        """Return the connection that a lane of `peer_id` belongs to; raise if it may have none."""
        if not verify_signature(peer_id, signature, _claim(self._identity.peer_id, nonce)):
            raise Unauthentic(f"somebody else signed for node {short(peer_id)}")
        connection = self._find(peer_id)
        if connection is None:
            raise PeerLost(f"node {short(peer_id)} has no QUIC connection to this node")
        if sum(self._belongs_to(peer_id, other) for other in self._open) >= MAX_LANES_PER_PEER:
            raise PeerLost(f"node {short(peer_id)} has {MAX_LANES_PER_PEER} lanes already")
        return connection

    def _belongs_to(self, peer_id: PeerId, protocol: LaneProtocol) -> bool:
        return protocol.stream is not None and protocol.stream.connection.peer_id == peer_id

    # --- both ---

    def _begin(self, protocol: LaneProtocol, connection: QuicConnection, *, is_ours: bool) -> LaneStream:
        if connection.is_closed:
            raise PeerLost(f"the connection to node {short(connection.peer_id)} ended meanwhile")
        sock = protocol.transport.get_extra_info("socket")
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNACKED_TIMEOUT_S * 1000))
        number = -next(self._numbers)  # QUIC's own streams count upwards from 0
        stream = LaneStream(connection, number, protocol, peer=short(connection.peer_id))
        connection.adopt_stream(number, stream, is_ours=is_ours)
        protocol.begin(stream)
        if self._checking is None:
            self._check_later()
        return stream

    def _check_later(self) -> None:
        self._checking = asyncio.get_running_loop().call_later(CHECK_INTERVAL_S, self._check_addresses)

    def _check_addresses(self) -> None:
        """Drop lanes whose ends have moved: QUIC follows them, TCP would wait for its timeout."""
        self._checking = None
        for protocol in list(self._open):
            if protocol.stream is not None and self._has_moved(protocol, protocol.stream.connection):
                peer = short(protocol.stream.connection.peer_id)
                logger.info("a lane to %s ends: an address is gone", peer)
                self._avoid(protocol.stream.connection)
                protocol.transport.abort()
        if self._open:
            self._check_later()

    @staticmethod
    def _has_moved(protocol: LaneProtocol, connection: Connection) -> bool:
        here, there = (protocol.transport.get_extra_info(name) for name in ("sockname", "peername"))
        if here is None or there is None:
            return True  # the kernel has dropped it already; the transport will say so
        return not has_address(here[0]) or _unmapped(there[0]) != _unmapped(connection.address.host)

    def _forget(self, protocol: LaneProtocol, exc: Exception | None) -> None:
        self._open.discard(protocol)
        # A peer that drops a stream resets TCP. What else breaks it will break the next one too.
        if isinstance(exc, OSError) and not isinstance(exc, ConnectionResetError) and protocol.stream:
            logger.info("a lane to %s broke: %s", short(protocol.stream.connection.peer_id), exc)
            self._avoid(protocol.stream.connection)

    def _avoid(self, connection: Connection) -> None:
        self._avoided_until[connection] = now_s() + AVOID_S


def _claim(listener: PeerId, nonce: bytes) -> bytes:
    return _CONTEXT + listener + nonce


def _unmapped(host: str) -> str:
    return host.removeprefix("::ffff:")


def _is_local(address: Address) -> bool:
    """Return whether `address` is on a network at home, where TCP passes and nobody is far away."""
    ip = ipaddress.ip_address(address.host.partition("%")[0])
    return ip.is_private or ip.is_link_local
