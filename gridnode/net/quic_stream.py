"""A stream over QUIC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gridnode.net.aioquic_private import PeerQuic
from gridnode.net.framed_stream import MAX_UNACKED_STREAM_BYTES, CloseCode, FramedStream, Piece
from gridnode.net.transport import Connection


class StreamOwner(Connection, Protocol):
    """What a stream needs of its connection."""

    @property
    def quic(self) -> PeerQuic:
        """The QUIC machine that carries the stream."""
        ...

    def has_written(self, size_bytes: int) -> None:
        """Take the news that there is something to send, `size_bytes` of it stream data."""
        ...

    def may_write(self) -> bool:
        """Return whether the connection as a whole is below its watermark."""
        ...

    def wants_to_write(self, stream: QuicStream) -> None:
        """Call `stream.resume_sending` once enough has been acknowledged."""
        ...

    def forget_stream(self, stream_id: int) -> None:
        """Take a stream out of the table."""
        ...


class QuicStream(FramedStream):
    """One bidirectional QUIC stream (RFC 9000, 2)."""

    def __init__(self, owner: StreamOwner, stream_id: int, *, peer: str) -> None:
        super().__init__(owner, peer=peer)
        self._owner = owner
        self._stream_id = stream_id

    @property
    def unacked_bytes(self) -> int:
        """Bytes written that the peer has not acknowledged."""
        return self._owner.quic.unacked_bytes(self._stream_id)

    def _write(self, pieces: Sequence[Piece]) -> None:
        size_bytes = 0
        for piece in pieces:
            # The library appends to a bytearray, which takes any buffer of bytes without a copy between.
            data = piece if isinstance(piece, bytes) else memoryview(piece).cast("B")
            self._owner.quic.send_stream_data(self._stream_id, data)  # type: ignore[arg-type]
            size_bytes += len(data)
        self._owner.has_written(size_bytes)

    def _write_end(self) -> None:
        self._owner.quic.send_stream_data(self._stream_id, b"", end_stream=True)
        self._owner.has_written(0)

    def _write_reset(self, code: CloseCode) -> None:
        quic = self._owner.quic
        quic.reset_stream(self._stream_id, code)
        if quic.has_stream(self._stream_id) and not self._has_ended_by_peer:
            quic.stop_stream(self._stream_id, code)
        self._owner.has_written(0)

    def _is_below_watermark(self) -> bool:
        if self.unacked_bytes < MAX_UNACKED_STREAM_BYTES and self._owner.may_write():
            return True
        self._owner.wants_to_write(self)
        return False

    def _forget(self) -> None:
        self._owner.forget_stream(self._stream_id)
