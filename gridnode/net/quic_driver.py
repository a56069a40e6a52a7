"""Drives the sans-IO machine of aioquic with datagrams and timers, from the handshake to the end.

It has no task of its own. Datagrams and timers call it; it wakes whoever waits.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Hashable
from typing import Any

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId, short
from gridnode.core.relays import is_peer_address, is_virtual, peer_tag, virtual_address
from gridnode.errors import GridError, PeerLost, ProtocolError, Unauthentic
from gridnode.net.aioquic_private import PeerQuic
from gridnode.net.base_connection import BaseConnection
from gridnode.net.certificate import peer_id_of
from gridnode.net.clock import now_s
from gridnode.net.close_reason import TlsAlert, explain_close
from gridnode.net.datagram_sizing import DatagramSizing
from gridnode.net.framed_stream import CloseCode
from gridnode.net.liveness import Liveness
from gridnode.net.packet_carrier import PacketCarrier
from gridnode.net.quic_settings import QuicSettings
from gridnode.net.timer import LazyTimer
from gridnode.net.udp import Datagram, SocketAddress, from_socket_address
from gridnode.net.unacked import UnackedLimit

logger = logging.getLogger("gridnode.net.quic")

ALPN = "gridnode/1"
RELAY_ALPN = "gridnode-relay/1"
"""Of connections between a node and a relay: they carry no streams of the swarm."""

MAX_RELAY_STREAMS = 1
"""Streams that a node may have open to a relay: its registration. A relay opens none to a node."""

# How long a connection that we closed answers late packets with the news (RFC 9000, 10.2.1).
_LINGER_S = 1.0
_MAX_FAREWELLS = 5
_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM, errno.EINVAL})


class QuicDriver(BaseConnection):
    """A QUIC connection without its streams: who is there, which packets go where and when, how it ends."""

    def __init__(
        self,
        carrier: PacketCarrier[Any],
        configuration: QuicConfiguration,
        settings: QuicSettings,
        *,
        on_established: Callable[[Any], None],
        expected: PeerId | None = None,
        original_connection_id: bytes | None = None,
    ) -> None:
        super().__init__()
        self.quic = PeerQuic(
            configuration,
            max_streams=_max_streams(configuration, settings),
            unread_bytes=lambda: self.unread_bytes,
            original_destination_connection_id=original_connection_id,
        )
        self._carrier = carrier
        self._settings = settings
        self._on_established = on_established
        self._expected = expected
        self._loop = asyncio.get_running_loop()
        self._established: asyncio.Future[None] = self._loop.create_future()
        self._peer_id: PeerId | None = None
        self._address = Address("0.0.0.0", 0)
        self._alpn = ""
        self._timer = LazyTimer(self._timer_fired)
        self._flushing: asyncio.Handle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._has_stream_data = False
        self._unacked = UnackedLimit(self.quic)
        self._sizing = DatagramSizing(
            self.quic,
            smallest_bytes=settings.datagram_bytes,
            largest_bytes=settings.largest_datagram_bytes if carrier.is_whole else settings.datagram_bytes,
        )
        self._liveness = Liveness(settings, ping=lambda: self._send_ping(0))
        self._farewell: list[Datagram] = []
        self._farewells_left = _MAX_FAREWELLS

    @property
    def peer_id(self) -> PeerId:
        """Who is at the other end, proven by its certificate."""
        assert self._peer_id is not None, "asked before the handshake"
        return self._peer_id

    @property
    def address(self) -> Address:
        """Where the peer's packets come from; a peer may move."""
        return self._current_address()

    @property
    def is_client(self) -> bool:
        """Whether this side dialled."""
        return self.quic.configuration.is_client

    @property
    def is_established(self) -> bool:
        """Whether the handshake is complete and the peer is who it should be."""
        return self._established.done() and self._error is None

    @property
    def alpn(self) -> str:
        """The protocol that both sides agreed on."""
        return self._alpn

    @property
    def current_destination(self) -> SocketAddress:
        """Where packets go now, in the words of the socket; perhaps a virtual address."""
        current: SocketAddress | None = self.quic.get_peer_address()
        return tuple(self._address) if current is None else current

    @property
    def is_address_proven(self) -> bool:
        """Whether the peer receives what goes there; it may only say so right after it has moved."""
        return self.quic.is_address_proven

    # --- the beginning ---

    def connect(self, destination: SocketAddress) -> None:
        """Begin the handshake as client."""
        self._address = from_socket_address(destination)
        self.quic.connect(destination, now=now_s())
        self.flush()

    async def wait_established(self) -> None:
        """Wait for the end of the handshake.

        Raises:
            Unauthentic: the peer is somebody else, or refused us.
            PeerLost: it did not answer, or closed the connection.
        """
        await asyncio.shield(self._established)

    def _handle_events(self) -> None:
        while self._error is None and (event := self.quic.next_event()) is not None:
            self._handle_event(event)
        if self._peer_id is not None and not self._established.done() and self.quic.is_confirmed:
            self._become_established()

    def _handle_event(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.ConnectionIdIssued):
            self._carrier.route(event.connection_id, self)
        elif isinstance(event, events.ConnectionIdRetired):
            self._carrier.unroute(event.connection_id)
        elif isinstance(event, events.HandshakeCompleted):
            self._authenticate(event)
        elif isinstance(event, events.ConnectionTerminated):
            self._quic_closed(event, [])

    def _authenticate(self, event: events.HandshakeCompleted) -> None:
        try:
            if not event.alpn_protocol or event.session_resumed:
                raise Unauthentic(f"the peer did not agree on the protocol {ALPN}")
            self._alpn = event.alpn_protocol
            self._peer_id = peer_id_of(self.quic.peer_certificates, expected=self._expected)
            self._check_tag(self._peer_id)
        except Unauthentic as exc:
            alert = TlsAlert.BAD_CERTIFICATE if self.quic.peer_certificates else TlsAlert.CERTIFICATE_REQUIRED
            error = Unauthentic(f"{self._current_address()}: {exc}")
            self._close_quic(error, alert.error_code, frame_type=alert.frame_type, reason=str(exc))

    def _check_tag(self, peer_id: PeerId) -> None:
        """Refuse a peer that uses the virtual address of another one."""
        address = from_socket_address(self.current_destination)
        if is_peer_address(address) and virtual_address(peer_tag(peer_id)) != address:
            raise Unauthentic(f"node {short(peer_id)} uses the tag of another one")

    def _become_established(self) -> None:
        self._address = self._current_address()
        self._established.set_result(None)
        self._on_established(self)

    # --- packets ---

    def receive_datagram(self, data: bytes, source: SocketAddress) -> None:
        """Take a datagram; call `react` after the last one of a batch."""
        if self._error is not None:
            if self._farewell and self._farewells_left:
                self._farewells_left -= 1
                self._carrier.send(self._farewell)
            return
        known = self.quic.get_peer_address()
        if known is not None and is_virtual(known[0]):
            source = known  # whichever way it came; which way ours take is not for QUIC to decide
        elif self.is_client:
            if known is None or source[:2] != known[:2]:
                return  # QUIC servers do not move (RFC 9000, 9), so that these packets would not count anyway
            source = known  # without the address that it came to: that is ours to choose
        now = now_s()
        self._liveness.heard(now)
        self.quic.receive_datagram(data, source, now=now)

    def react(self) -> None:
        """Handle what datagrams brought, and answer."""
        if self._error is not None:
            return
        self._handle_events()
        self.flush()
        self._unacked.resume()

    def flush(self) -> None:
        """Send what is due and set the timer for what will be."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._error is not None:
            return
        now = now_s()
        if self._has_stream_data:
            self._has_stream_data = False
            self.quic.acknowledge_now(now)
        is_established = self.is_established
        if is_established:
            self._sizing.follow(self._direct_way())
        datagrams = self.quic.datagrams_to_send(now=now)
        if is_established:
            datagrams += self._sizing.probes(datagrams, now=now)
        if datagrams:
            failure = self._carrier.send(datagrams)
            if failure is not None:
                self._send_failed(failure)
        self._handle_events()  # sending issues connection ids
        if self.quic.close_event is not None:
            self._quic_closed(self.quic.close_event, datagrams)
        elif self._error is None:
            self._set_timer(now)

    def _send_failed(self, failure: OSError) -> None:
        if failure.errno in _UNREACHABLE and self.is_client and not self.is_established:
            self._finish(PeerLost(f"cannot reach {self._address}: {failure.strerror}"))

    def _set_timer(self, now: float) -> None:
        due = self.quic.get_timer()
        if due is not None:
            self._timer.set(due - now)

    def _timer_fired(self) -> None:
        now = now_s()
        due = self.quic.get_timer()
        if due is not None and now >= due:
            self.quic.handle_timer(now=now)
            self._sizing.look_for_timeouts()
            self.react()
        else:
            self._set_timer(now)

    def _send_ping(self, number: int) -> None:
        self.quic.send_ping(number)
        self.flush()

    # --- the way ---

    def _current_address(self) -> Address:
        current = self.quic.get_peer_address()
        return self._address if current is None else self._carrier.real_address(current)

    def sends_to(self, destination: SocketAddress) -> bool:
        """Return whether packets go to `destination` now."""
        return from_socket_address(destination) == self._current_address()

    def path_changed(self) -> None:
        """Take the news that packets go another way from now on: what was measured counts no more.

        What may be lost on the old way is sent again at once.
        """
        if self._error is None and self.is_established:
            self.quic.path_changed(now_s())
            self.flush()

    def hurry(self) -> None:
        """Send again what was not acknowledged: the way it took may have ended."""
        if self._error is None and self.is_established:
            self.quic.resend(now_s())
            self.flush()

    def shrink_datagrams(self, size_bytes: int) -> None:
        """Take the hint that datagrams of more than `size_bytes` do not reach the peer."""
        if self._error is None and self.is_established:
            self._sizing.limit(size_bytes)

    def _direct_way(self) -> Hashable | None:
        """Return the way of packets if their size is worth a search."""
        if self._alpn != ALPN:
            return None  # a relay hears little of us
        destination = self.current_destination
        carrier = self._carrier.carrier(destination)
        return destination if carrier is None else carrier.direct_way

    # --- the end ---

    def close(self, error: GridError, code: int = CloseCode.DROPPED) -> None:
        """Close the connection with `code` for the peer and `error` for everybody here."""
        if self._error is not None:
            return
        if self._peer_id is not None:
            self.flush()  # what is written goes out first, as far as it may
        self._close_quic(error, code, frame_type=None, reason="")

    def _close_quic(self, error: GridError, code: int, *, frame_type: int | None, reason: str) -> None:
        self.quic.close(error_code=code, frame_type=frame_type, reason_phrase=reason)
        self._farewell = self.quic.datagrams_to_send(now=now_s())
        if self._farewell:
            self._carrier.send(self._farewell)
        self._finish(error, linger_s=_LINGER_S)

    def _quic_closed(self, event: events.ConnectionTerminated, farewell: list[Datagram]) -> None:
        if self._error is not None:
            return
        is_ours = not self.quic.was_closed_by_peer
        who = f"node {short(self._peer_id)} at {self._address}" if self._peer_id else str(self._address)
        error = explain_close(event, who=who, is_ours=is_ours, idle_timeout_s=self._settings.idle_timeout_s)
        if isinstance(error, ProtocolError):
            logger.warning("%s", error)
        self._farewell = farewell
        self._finish(error, linger_s=_LINGER_S if is_ours and farewell else 0.0)

    def _finish(self, error: GridError, *, linger_s: float = 0.0) -> None:
        """End the connection here; keep answering late packets for `linger_s`."""
        self._timer.cancel()
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        self._liveness.stop()
        self._unacked.clear()
        self._fail(error)
        if not self._established.done():
            self._established.set_exception(error)
            self._established.exception()  # a peer that dialled us and failed has nobody who waits
        if linger_s:
            self._lingering = self._loop.call_later(linger_s, self.forget)
        else:
            self.forget()

    def abandon(self, error: GridError) -> None:
        """End the connection without telling the peer: its packets cannot be handled."""
        if self._error is None:
            self._finish(error)

    def forget(self) -> None:
        """Leave the tables of the socket at once."""
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        self._carrier.forget(self)


def _max_streams(configuration: QuicConfiguration, settings: QuicSettings) -> int:
    """Return how many streams the peer may have open at once."""
    if ALPN in (configuration.alpn_protocols or ()):
        return settings.max_streams
    return 0 if configuration.is_client else MAX_RELAY_STREAMS
