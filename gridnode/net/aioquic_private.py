"""The only place that touches private parts of aioquic, and says which.

aioquic is a complete QUIC (RFC 9000) without I/O, but it has no public switch for what peers need of it:
client certificates, bounded windows, the bytes that are not acknowledged yet, datagrams that grow.
`missing_attributes` names what a new version of the library took away; a test calls it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.congestion.base import K_INITIAL_WINDOW
from aioquic.quic.connection import Limit, QuicConnection, QuicConnectionState
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamDataReceived
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketPacer
from cryptography import x509

from gridnode.net.congestion import BbrController
from gridnode.units import KIB, MIB

# Received but not in order, or not read: what the library may hold of one connection. Enough for
# 1 Gbit/s over 130 ms.
RECEIVE_WINDOW_BYTES = 16 * MIB
# The same of a connection to a relay: registrations and lists of members have less than 4 KiB.
RELAY_WINDOW_BYTES = 64 * KIB
# Frames that the application has not taken, over all streams of a connection, in windows. Above it, the
# window stays shut. An honest peer's incomplete frames never get there, so that cannot block for good.
MAX_UNREAD_WINDOWS = 4
# Datagrams that may leave at once. Timers fire every millisecond at best: 16, the library's number, would
# allow 19 MB/s.
PACER_BURST_DATAGRAMS = 64
# And the time for which a faster path is filled at once: a timer and what delays it.
PACER_BURST_S = 0.003

_CONNECTION_ATTRIBUTES = (
    "_close_event",
    "_cryptos",
    "_events",
    "_flush_builder",
    "_handshake_confirmed",
    "_initialize",
    "_local_max_data",
    "_local_max_streams_bidi",
    "_local_max_streams_uni",
    "_loss",
    "_max_datagram_size",
    "_network_paths",
    "_pacing_at",
    "_packet_number",
    "_peer_cid",
    "_peer_token",
    "_remote_max_streams_bidi",
    "_spaces",
    "_spin_bit",
    "_state",
    "_streams",
    "_version",
)
_RECOVERY_ATTRIBUTES = (
    "_cc",
    "_pacer",
    "_pto_count",
    "_rtt_initialized",
    "_rtt_min",
    "_rtt_smoothed",
    "reschedule_data",
)
_TLS_ATTRIBUTES = ("_peer_certificate", "_peer_certificate_chain", "_request_client_certificate")
_PACER_ATTRIBUTES = ("_max_datagram_size", "bucket_max", "bucket_time", "packet_time", "update_rate")
_SENDER_ATTRIBUTES = ("_buffer_start", "_buffer_stop", "_reset_error_code")


def missing_attributes() -> list[str]:
    """Return the private attributes that the installed aioquic does not have. There should be none."""
    quic = QuicConnection(configuration=QuicConfiguration(is_client=True))
    quic.connect(("127.0.0.1", 9), now=0.0)
    quic.send_stream_data(0, b"x")
    checks: list[tuple[object, tuple[str, ...]]] = [
        (quic, _CONNECTION_ATTRIBUTES),
        (getattr(quic, "_loss", None), _RECOVERY_ATTRIBUTES),
        (getattr(quic, "tls", None), _TLS_ATTRIBUTES),
        (QuicPacketPacer(max_datagram_size=1200), _PACER_ATTRIBUTES),
        (quic._streams[0].sender, _SENDER_ATTRIBUTES),
        (getattr(quic, "_spaces", {}).get(tls.Epoch.ONE_RTT), ("ack_at", "sent_packets")),
        (quic._network_paths[0], ("is_validated",)),
    ]
    return [
        f"{type(owner).__name__}.{name}"
        for owner, names in checks
        for name in names
        if not hasattr(owner, name)
    ]


class SlidingLimit(Limit):
    """A window that slides with what was received, where the library's doubles without end.

    The library assigns `value` whenever half of it is used. What it assigns is ignored: the window
    moves on by at least half of its size, and only while `may_grow`.
    """

    def __init__(self, frame_type: int, name: str, window_bytes: int, may_grow: Callable[[], bool]) -> None:
        self._window_bytes = window_bytes
        self._may_grow = may_grow
        self._end = window_bytes
        super().__init__(frame_type, name, window_bytes)

    @property
    def value(self) -> int:
        """The offset up to which the peer may send."""
        return self._end

    @value.setter
    def value(self, _: int) -> None:
        used: int = getattr(self, "used", 0)
        if (self._end - used) * 2 < self._window_bytes and self._may_grow():
            self._end = used + self._window_bytes


class BurstPacer(QuicPacketPacer):
    """Spreads datagrams over time, in bursts that fit timers of a millisecond.

    A congestion controller with an attribute `pacing_rate_bytes_per_s` decides the rate;
    for others it is one window per round trip, as in the library.
    """

    def __init__(self, *, max_datagram_size: int, controller: object) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self._controller = controller

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        """Take a new congestion window in bytes and round-trip time in seconds."""
        rate = getattr(self._controller, "pacing_rate_bytes_per_s", None)
        if rate is None:
            rate = congestion_window / max(smoothed_rtt, 1e-6)
        self.packet_time = max(1e-6, min(self._max_datagram_size / rate, 1.0))
        self.bucket_max = max(PACER_BURST_DATAGRAMS * self.packet_time, PACER_BURST_S)
        self.bucket_time = min(self.bucket_time, self.bucket_max)


class PeerQuic(QuicConnection):
    """A QUIC connection between two nodes: both present a certificate, and windows are bounded."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        *,
        max_streams: int,
        unread_bytes: Callable[[], int],
        original_destination_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
        )
        self._local_max_data = SlidingLimit(
            QuicFrameType.MAX_DATA,
            "max_data",
            configuration.max_data,
            lambda: unread_bytes() < MAX_UNREAD_WINDOWS * configuration.max_data,
        )
        for limit, count in ((self._local_max_streams_bidi, max_streams), (self._local_max_streams_uni, 0)):
            limit.value = limit.sent = count
        self._loss._pacer = BurstPacer(
            max_datagram_size=configuration.max_datagram_size, controller=self._loss._cc
        )

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        if not self._is_client:
            self.tls._request_client_certificate = True

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """Return what to send now, and tell the congestion controller if that is all there was to say."""
        datagrams = super().datagrams_to_send(now)
        loss = self._loss
        if (
            self._pacing_at is None
            and loss.bytes_in_flight + self._max_datagram_size <= loss.congestion_window
            and isinstance(loss._cc, BbrController)
        ):
            loss._cc.on_app_limited()
        return datagrams

    def next_event(self) -> QuicEvent | None:
        """Return the next event, or None. What came on one stream in many packets is one event."""
        event = super().next_event()
        if not isinstance(event, StreamDataReceived):
            return event
        pieces, end_stream = [event.data], event.end_stream
        while (
            self._events
            and isinstance(following := self._events[0], StreamDataReceived)
            and following.stream_id == event.stream_id
        ):
            self._events.popleft()
            pieces.append(following.data)
            end_stream |= following.end_stream
        return StreamDataReceived(b"".join(pieces), end_stream, event.stream_id)

    @property
    def has_started(self) -> bool:
        """Whether a packet of the peer could be read: until then a server has seen only noise."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def is_confirmed(self) -> bool:
        """Whether both sides know that the handshake is complete (RFC 9001, 4.1.2)."""
        return self._handshake_confirmed

    @property
    def close_event(self) -> ConnectionTerminated | None:
        """Why the connection is closing, at once: the library's event comes three timeouts later."""
        return self._close_event

    @property
    def was_closed_by_peer(self) -> bool:
        """Whether the peer closed the connection, rather than this side."""
        return self._state is QuicConnectionState.DRAINING

    @property
    def peer_certificates(self) -> list[x509.Certificate]:
        """What the peer presented, its own certificate first."""
        own = self.tls._peer_certificate
        return [] if own is None else [own, *self.tls._peer_certificate_chain]

    @property
    def rtt_s(self) -> float | None:
        """Smoothed round-trip time in seconds, or None before the first measurement."""
        return self._loss._rtt_smoothed if self._loss._rtt_initialized else None

    @property
    def max_streams_by_peer(self) -> int:
        """How many streams the peer has allowed us to open, since the beginning."""
        return self._remote_max_streams_bidi

    @property
    def max_datagram_bytes(self) -> int:
        """The largest datagram that is sent."""
        return self._max_datagram_size

    @max_datagram_bytes.setter
    def max_datagram_bytes(self, size: int) -> None:
        self._max_datagram_size = size
        self._loss._pacer._max_datagram_size = size
        controller: Any = self._loss._cc  # the base class does not declare the size that all have
        controller._max_datagram_size = size
        # A window of less than a few datagrams would cut them to what is left of it.
        controller.congestion_window = max(controller.congestion_window, K_INITIAL_WINDOW * size)

    @property
    def num_timeouts(self) -> int:
        """How many times in a row the peer's acknowledgement did not come in time."""
        return self._loss._pto_count

    @property
    def is_address_proven(self) -> bool:
        """Whether the peer has shown that it receives what goes to its present address (RFC 9000, 8.2)."""
        return self._network_paths[0].is_validated

    @property
    def may_probe_sizes(self) -> bool:
        """Whether a probe may be sent now: not before the peer has shown that it is where packets go."""
        return self._handshake_confirmed and self.is_address_proven

    def make_size_probe(
        self, size_bytes: int, *, on_result: Callable[[bool], None], now: float
    ) -> list[tuple[bytes, Any]]:
        """Return a datagram of `size_bytes` that says nothing, to be sent at once (RFC 9000, 14.4).

        Args:
            on_result: Called once with whether it arrived, as far as that can be known.
        """
        builder = QuicPacketBuilder(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=size_bytes,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            peer_token=self._peer_token,
            spin_bit=self._spin_bit,
            version=self._version or 0,
        )
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[tls.Epoch.ONE_RTT])
        frame = builder.start_frame(
            QuicFrameType.PING,
            handler=lambda delivery: on_result(delivery is QuicDeliveryState.ACKED),
        )
        frame.push_bytes(bytes(builder.remaining_buffer_space))  # frames of padding
        datagrams = self._flush_builder(
            builder=builder, network_path=self._network_paths[0], peer_cid=self._peer_cid.cid, now=now
        )
        # Its loss says nothing about congestion, so that controller need not know of it.
        packet = next(reversed(self._spaces[tls.Epoch.ONE_RTT].sent_packets.values()))
        self._loss._cc.on_packets_expired(packets=[packet])
        packet.in_flight = False
        return datagrams

    def unacked_bytes(self, stream_id: int) -> int:
        """Return the bytes written to a stream that the peer has not acknowledged."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.sender._reset_error_code is not None:
            return 0
        return stream.sender._buffer_stop - stream.sender._buffer_start

    def all_unacked_bytes(self) -> int:
        """Return the bytes written to all streams that the peer has not acknowledged."""
        return sum(self.unacked_bytes(stream_id) for stream_id in self._streams)

    def has_stream(self, stream_id: int) -> bool:
        """Return whether either direction of the stream is still open."""
        return stream_id in self._streams

    def path_changed(self, now: float) -> None:
        """Forget what was measured of the path, and send again what may be lost on the old one."""
        loss = self._loss
        loss._rtt_initialized = False
        loss._rtt_min = math.inf
        if isinstance(loss._cc, BbrController):
            loss._cc.on_path_changed(now)
        self.resend(now)

    def resend(self, now: float) -> None:
        """Send the oldest data that is not acknowledged again, and wait for its answer as at first."""
        self._loss._pto_count = 0
        self._loss.reschedule_data(now=now)

    def acknowledge_now(self, now: float) -> None:
        """Put a due acknowledgement into the next packet instead of into one of its own, 1 ms later."""
        space = self._spaces[tls.Epoch.ONE_RTT]
        if space.ack_at is not None:
            space.ack_at = now
