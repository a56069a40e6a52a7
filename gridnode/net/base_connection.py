"""What the connections of all transports have in common: their streams, and how they end."""

from __future__ import annotations

import asyncio

from gridnode.core.ids import PeerId, short
from gridnode.errors import ConnectionClosed, GridError
from gridnode.net.framed_stream import FramedStream
from gridnode.net.mailbox import Mailbox, fresh


class BaseConnection:
    """A connection without the way its bytes travel."""

    def __init__(self) -> None:
        self._streams: dict[int, FramedStream] = {}
        self._accepted: Mailbox[FramedStream] = Mailbox()
        self._gone = asyncio.Event()
        self._error: GridError | None = None

    @property
    def peer_id(self) -> PeerId:
        """Who is at the other end."""
        raise NotImplementedError

    @property
    def is_closed(self) -> bool:
        """Whether the connection is gone."""
        return self._error is not None

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    @property
    def unread_bytes(self) -> int:
        """Bytes received on all streams and not taken by the application yet."""
        return sum(stream.buffered_bytes for stream in self._streams.values())

    async def accept_stream(self) -> FramedStream:
        """Return the next stream of the peer; see `gridnode.net.transport.Connection.accept_stream`."""
        return await self._accepted.get()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone; see `gridnode.net.transport.Connection.wait_closed`."""
        await self._gone.wait()

    def _raise_if_gone(self) -> None:
        if self._error is not None:
            raise fresh(self._error)

    def _closed_by_us(self) -> ConnectionClosed:
        return ConnectionClosed(f"the connection to node {short(self.peer_id)} was closed by this side")

    def adopt_stream(self, stream_id: int, stream: FramedStream, *, is_ours: bool) -> None:
        """Let `stream` end with this connection, and be accepted here if the peer opened it."""
        self._streams[stream_id] = stream
        if not is_ours:
            self._accepted.put(stream)

    def forget_stream(self, stream_id: int) -> None:
        """Take a stream out of the table: both directions have ended.

        Nobody accepts it any more, so that no more streams wait than a peer may have open.
        """
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._accepted.discard(stream)

    def _fail(self, error: GridError) -> None:
        """End the connection and everything on it. Only the first error counts."""
        if self._error is not None:
            return
        self._error = error
        for stream in list(self._streams.values()):
            stream.fail(error)
        self._streams.clear()
        self._accepted.close(error)
        self._gone.set()
