"""A connection over QUIC: its streams, and what its peer and its users may expect."""

from __future__ import annotations

from collections.abc import Callable

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration

from gridnode.core.ids import PeerId, short
from gridnode.core.relays import is_virtual
from gridnode.errors import GridError, NoCapacity, PeerLost
from gridnode.net.carrier import PathKind
from gridnode.net.framed_stream import CloseCode, FramedStream
from gridnode.net.packet_carrier import PacketCarrier
from gridnode.net.pings import Pings
from gridnode.net.quic_driver import QuicDriver
from gridnode.net.quic_settings import QuicSettings
from gridnode.net.quic_stream import QuicStream


class QuicConnection(QuicDriver):
    """One authenticated link to a peer over QUIC; see `gridnode.net.transport.Connection`."""

    def __init__(
        self,
        carrier: PacketCarrier[QuicConnection],
        configuration: QuicConfiguration,
        settings: QuicSettings,
        *,
        on_established: Callable[[QuicConnection], None],
        expected: PeerId | None = None,
        original_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            carrier,
            configuration,
            settings,
            on_established=on_established,
            expected=expected,
            original_connection_id=original_connection_id,
        )
        self._pings = Pings()

    # --- the contract ---

    @property
    def path(self) -> PathKind:
        """The way that packets take now."""
        carrier = self._carrier.carrier(self.current_destination)
        return carrier.kind if carrier else PathKind.DIRECT

    @property
    def virtual_host(self) -> str:
        """The virtual address of the peer, if packets may take several ways; empty otherwise."""
        host: str = self.current_destination[0]
        return host if is_virtual(host) else ""

    @property
    def rtt_s(self) -> float | None:
        """Smoothed round-trip time in seconds, or None before the first measurement."""
        return self.quic.rtt_s

    async def ping(self) -> float:
        """Return the seconds to the peer and back; see `gridnode.net.transport.Connection.ping`."""
        self._raise_if_gone()
        return await self._pings.ask(self._send_ping, peer=f"node {short(self.peer_id)} at {self.address}")

    async def open_stream(self) -> QuicStream:
        """Open a stream; see `gridnode.net.transport.Connection.open_stream`."""
        self._raise_if_gone()
        stream_id = self.quic.get_next_available_stream_id()
        if stream_id // 4 >= self.quic.max_streams_by_peer:
            raise NoCapacity(
                f"all {self.streams} streams that node {short(self.peer_id)} allows are open; finish some"
            )
        self.quic.send_stream_data(stream_id, b"")  # takes the number
        return self._make_stream(stream_id, is_ours=True)

    async def open_lane(self) -> FramedStream:
        """Open a stream on TCP if that works, else on QUIC; see `gridnode.net.transport.Connection`."""
        self._raise_if_gone()
        return await self._carrier.open_lane(self) or await self.open_stream()

    async def aclose(self) -> None:
        """Close the connection and all its streams. Safe to call more than once."""
        self.close(self._closed_by_us())

    # --- for the transport ---

    def suspect(self, *, patience_s: float = 0.0) -> None:
        """Take the hint that nobody answers there any more; see `gridnode.net.transport.Connection`."""
        if self._error is not None:
            return
        if (carrier := self._carrier.carrier(self.current_destination)) is not None:
            carrier.doubt()
            if not patience_s:
                return  # there are other ways to try

        def give_up() -> None:
            self.close(PeerLost(f"nobody answers at {self._current_address()} (any more)"))

        patience_s = max(self._settings.suspicion_s + 2 * (self.rtt_s or 0.0), patience_s)
        self._liveness.suspect(give_up, patience_s=patience_s, may_ping=self.is_established)

    def keep_alive(self, now: float) -> None:
        """Ping a silent peer; give up one that does not answer. To be called about once a second."""
        if self._error is not None:
            return
        if not self.is_established:
            age_s = now - self._liveness.started_at
            if not self.is_client and age_s > self._settings.handshake_timeout_s:
                self.close(PeerLost(f"{self._current_address()} did not complete its handshake in time"))
            return
        silence_s = self._liveness.silence_s(now)
        if self._streams and silence_s > self._settings.busy_silence_limit_s:
            self.close(
                PeerLost(f"node {short(self.peer_id)} at {self._address} was silent for {silence_s:.0f} s")
            )
            return
        self._liveness.keep_alive(now, is_busy=bool(self._streams))

    def _fail(self, error: GridError) -> None:
        self._pings.fail(error)
        super()._fail(error)

    # --- for streams ---

    def has_written(self, size_bytes: int) -> None:
        """Send soon: after everything that runs in this pass of the loop had its say."""
        if size_bytes:
            self._has_stream_data = True
            self._unacked.has_written(size_bytes)
        if self._flushing is None and self._error is None:
            self._flushing = self._loop.call_soon(self.flush)

    def may_write(self) -> bool:
        """Return whether the connection as a whole is below its watermark."""
        return self._unacked.may_write()

    def wants_to_write(self, stream: QuicStream) -> None:
        """Call `stream.resume_sending` once half of what was written is acknowledged."""
        self._unacked.wait(stream)

    def _make_stream(self, stream_id: int, *, is_ours: bool) -> QuicStream:
        stream = QuicStream(self, stream_id, peer=short(self.peer_id))
        self.adopt_stream(stream_id, stream, is_ours=is_ours)
        return stream

    # --- events ---

    def _handle_event(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            self._stream_data_received(event)
        elif isinstance(event, events.StreamReset):
            self._stream_reset(event.stream_id, event.error_code, has_ended_by_peer=True)
        elif isinstance(event, events.StopSendingReceived):
            self._stream_reset(event.stream_id, event.error_code, has_ended_by_peer=False)
        elif isinstance(event, events.PingAcknowledged):
            self._pings.answered(event.uid)
        else:
            super()._handle_event(event)

    def _stream_data_received(self, event: events.StreamDataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            stream = self._make_stream(event.stream_id, is_ours=False)
        if event.data:
            stream.data_received(event.data)
        if event.end_stream:
            stream.end_received()

    def _stream_reset(self, stream_id: int, code: int, *, has_ended_by_peer: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.reset_received(code, has_ended_by_peer=has_ended_by_peer)
        elif self.quic.has_stream(stream_id):
            # Dropped before it said anything: nobody here needs to know of it.
            self.quic.reset_stream(stream_id, CloseCode.DROPPED)
