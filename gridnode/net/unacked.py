"""What is written and not acknowledged: the library takes it without limit, so writers wait here."""

from __future__ import annotations

from typing import Protocol

from gridnode.net.aioquic_private import PeerQuic
from gridnode.net.framed_stream import MAX_UNACKED_CONNECTION_BYTES, MAX_UNACKED_STREAM_BYTES


class Writer(Protocol):
    """A stream that waits."""

    @property
    def unacked_bytes(self) -> int:
        """Bytes written that the peer has not acknowledged."""
        ...

    def resume_sending(self) -> None:
        """Go on writing."""
        ...


class UnackedLimit:
    """Lets the streams of a connection write while less than the watermark is not acknowledged."""

    def __init__(self, quic: PeerQuic) -> None:
        self._quic = quic
        self._written_bytes = 0  # since all streams were last counted, plus what that was
        self._waiting: set[Writer] = set()

    def has_written(self, size_bytes: int) -> None:
        """Take the news that a stream has written."""
        self._written_bytes += size_bytes

    def may_write(self) -> bool:
        """Return whether the connection as a whole is below its watermark."""
        if self._written_bytes >= MAX_UNACKED_CONNECTION_BYTES:
            self._written_bytes = self._quic.all_unacked_bytes()
        return self._written_bytes < MAX_UNACKED_CONNECTION_BYTES

    def wait(self, writer: Writer) -> None:
        """Let `writer` go on once half of what was written is acknowledged."""
        self._waiting.add(writer)

    def resume(self) -> None:
        """Let go on who may."""
        if not self._waiting or self._quic.all_unacked_bytes() * 2 > MAX_UNACKED_CONNECTION_BYTES:
            return
        for writer in list(self._waiting):
            if writer.unacked_bytes * 2 <= MAX_UNACKED_STREAM_BYTES:
                self._waiting.discard(writer)
                writer.resume_sending()

    def clear(self) -> None:
        """Let nobody wait any more: the connection has ended."""
        self._waiting.clear()
