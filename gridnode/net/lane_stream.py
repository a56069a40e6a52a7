"""A stream on a TCP connection of its own, encrypted by TLS, that belongs to a QUIC connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from gridnode.errors import GridError, PeerLost
from gridnode.net.framed_stream import MAX_UNACKED_STREAM_BYTES, CloseCode, FramedStream, Piece
from gridnode.net.transport import Connection
from gridnode.units import KIB

# What may arrive before the stream begins. Beyond it, TCP lets the peer wait.
MAX_GREETING_BYTES = 64 * KIB


class LaneOwner(Connection, Protocol):
    """What a lane needs of the connection that it belongs to."""

    def forget_stream(self, stream_id: int) -> None:
        """Take a stream out of the table."""
        ...


class LaneProtocol(asyncio.Protocol):
    """The bytes of one TCP connection: first those of the greeting, then those of the stream.

    Args:
        on_made: Called after the TLS handshake.
        on_lost: Called at the end, with what broke the TCP connection, if anything did.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        *,
        on_lost: Callable[[LaneProtocol, Exception | None], None],
        on_made: Callable[[LaneProtocol], None] = lambda _: None,
    ) -> None:
        self._on_lost = on_lost
        self._on_made = on_made
        self.stream: LaneStream | None = None
        self._greeting = bytearray()
        self._changed = asyncio.Event()
        self._is_lost = False

    async def read_greeting(self, size_bytes: int) -> bytes:
        """Return the next bytes that the peer sends before the stream begins.

        Raises:
            PeerLost: the TCP connection ended before.
        """
        await self.wait_data(size_bytes)
        data = bytes(self._greeting[:size_bytes])
        del self._greeting[:size_bytes]
        return data

    async def wait_data(self, size_bytes: int = 1) -> None:
        """Wait until so much has arrived that `read_greeting` has not returned yet.

        Raises:
            PeerLost: the TCP connection ended before.
        """
        while len(self._greeting) < size_bytes:
            if self._is_lost:
                raise PeerLost("the TCP connection ended in its greeting")
            self._changed.clear()
            await self._changed.wait()

    def begin(self, stream: LaneStream) -> None:
        """Give everything from now on to `stream`."""
        self.stream = stream
        self.transport.resume_reading()
        if self._greeting:
            stream.data_received(bytes(self._greeting))
            self._greeting.clear()
        if self._is_lost:
            stream.tcp_ended()

    # --- for asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the TCP connection."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=MAX_UNACKED_STREAM_BYTES)
        self._on_made(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        if self.stream is not None:
            self.stream.data_received(data)
        else:
            self._greeting += data
            self._changed.set()
            if len(self._greeting) > MAX_GREETING_BYTES:
                self.transport.pause_reading()

    def pause_writing(self) -> None:
        """Let senders wait: too much is on its way."""
        if self.stream is not None:
            self.stream.is_writable = False

    def resume_writing(self) -> None:
        """Let senders go on."""
        if self.stream is not None:
            self.stream.is_writable = True
            self.stream.resume_sending()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the TCP connection, in order or not."""
        self._is_lost = True
        self._changed.set()
        if self.stream is not None:
            self.stream.tcp_ended()
        self._on_lost(self, exc)


class LaneStream(FramedStream):
    """One stream over TCP. It ends with its TCP connection, and with the QUIC connection it belongs to."""

    def __init__(self, owner: LaneOwner, stream_id: int, protocol: LaneProtocol, *, peer: str) -> None:
        super().__init__(owner, peer=peer)
        self._owner = owner
        self._stream_id = stream_id
        self._transport = protocol.transport
        self.is_writable = True

    def fail(self, error: GridError) -> None:
        """Take the news that the connection is gone."""
        super().fail(error)
        self._transport.abort()

    def tcp_ended(self) -> None:
        """Take the end of the TCP connection: in order if both sides have said everything, else a reset."""
        if self._protocol.is_finished and self._protocol.is_finished_by_peer:
            self.end_received()
        else:
            self.reset_received(CloseCode.DROPPED, has_ended_by_peer=True)

    def _write(self, pieces: Sequence[Piece]) -> None:
        self._transport.writelines([memoryview(piece).cast("B") for piece in pieces])

    def _write_end(self) -> None:
        self._transport.close()  # after everything that is written

    def _write_reset(self, code: CloseCode) -> None:
        self._transport.abort()

    def _is_below_watermark(self) -> bool:
        return self.is_writable

    def _forget(self) -> None:
        self._owner.forget_stream(self._stream_id)
