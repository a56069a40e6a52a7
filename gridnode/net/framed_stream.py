"""What the streams of all transports have in common: waiting, finishing, and who broke what.

A transport moves bytes; this class turns them into the contract of `gridnode.net.transport.Stream`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum

from gridnode.errors import ConnectionClosed, GridError, PeerLost, ProtocolError
from gridnode.net.mailbox import fresh
from gridnode.net.transport import Connection
from gridnode.units import MIB
from gridnode.wire.frames import Frame
from gridnode.wire.stream import StreamProtocol

Piece = bytes | bytearray | memoryview

# Bytes written but not acknowledged. Below it a stream stays busy over 80 ms at 100 Mbit/s; above it
# frames only wait in our memory, where later and more urgent ones queue behind them.
MAX_UNACKED_STREAM_BYTES = 1 * MIB
# The same for all streams of a connection.
MAX_UNACKED_CONNECTION_BYTES = 4 * MIB


class CloseCode(IntEnum):
    """Why a stream or a connection was dropped, as the other side sees it."""

    DROPPED = 0
    """It is not needed any more."""

    PROTOCOL = 1
    """The other side sent nonsense."""

    BUSY = 2
    """There is no room for another connection."""

    INTERNAL = 3
    """An error of ours."""


def describe_code(code: int) -> str:
    """Return the word for a close code, also for one that this version does not know."""
    try:
        return CloseCode(code).name.lower()
    except ValueError:
        return f"code {code}"


class FramedStream(ABC):
    """One stream, without the way its bytes travel."""

    def __init__(self, connection: Connection, *, peer: str) -> None:
        self._connection = connection
        self._peer = peer
        self._protocol = StreamProtocol()
        self._sending = asyncio.Lock()
        self._writable: asyncio.Future[None] | None = None
        self._readable: asyncio.Future[None] | None = None
        self._error: GridError | None = None
        self._lost = asyncio.Event()
        self._has_ended = False  # this side wrote its last byte
        self._has_ended_by_peer = False  # no more bytes come

    # --- what a transport implements ---

    @abstractmethod
    def _write(self, pieces: Sequence[Piece]) -> None:
        """Send bytes after all earlier ones. Must not wait."""

    @abstractmethod
    def _write_end(self) -> None:
        """Say that no more bytes follow, after all earlier ones."""

    @abstractmethod
    def _write_reset(self, code: CloseCode) -> None:
        """Drop what is not sent yet, and ask the peer to send no more."""

    @abstractmethod
    def _is_below_watermark(self) -> bool:
        """Return whether more may be written now. If not, call `resume_sending` later."""

    @abstractmethod
    def _forget(self) -> None:
        """Take the stream out of its connection's table: both directions have ended."""

    # --- the contract ---

    @property
    def connection(self) -> Connection:
        """The connection that this stream is part of."""
        return self._connection

    @property
    def buffered_bytes(self) -> int:
        """Bytes received and not taken by the application yet."""
        return self._protocol.buffered_bytes

    async def send(self, frame: Frame) -> None:
        """Send one frame; see `gridnode.net.transport.Stream.send`."""
        async with self._sending:
            while not self._can_send():
                self._writable = asyncio.get_running_loop().create_future()
                try:
                    await self._writable
                finally:
                    self._writable = None
            self._write(self._protocol.send(frame))

    def _can_send(self) -> bool:
        """Return whether a frame may be sent now; raise if none may ever."""
        if self._error is not None:
            raise fresh(self._error)
        if self._protocol.is_finished:
            raise ConnectionClosed(f"the stream to node {self._peer} was finished by this side")
        return self._protocol.has_credit and self._is_below_watermark()

    async def receive(self) -> Frame | None:
        """Return the next frame; see `gridnode.net.transport.Stream.receive`."""
        while True:
            frame = self._protocol.next_frame()
            if frame is not None:
                if self._error is None and (grant := self._protocol.data_to_send()):
                    self._write([grant])
                return frame
            if self._protocol.is_finished_by_peer and not isinstance(self._error, ConnectionClosed):
                return None
            if self._error is not None:
                raise fresh(self._error)
            if self._readable is not None:
                raise RuntimeError("another task already receives from this stream")
            self._readable = asyncio.get_running_loop().create_future()
            try:
                await self._readable
            finally:
                self._readable = None

    async def wait_lost(self) -> None:
        """Wait until the stream is dropped; see `gridnode.net.transport.Stream.wait_lost`."""
        await self._lost.wait()

    def finish(self) -> None:
        """Say that no more frames follow; see `gridnode.net.transport.Stream.finish`."""
        if self._error is None and not self._protocol.is_finished:
            self._write([self._protocol.finish()])
            self._end_if_finished()
            self.resume_sending()

    def reset(self) -> None:
        """Drop the stream; see `gridnode.net.transport.Stream.reset`."""
        self._protocol.drop_received()
        self._drop(
            ConnectionClosed(f"the stream to node {self._peer} was reset by this side"), CloseCode.DROPPED
        )

    # --- what a transport calls ---

    def data_received(self, data: bytes) -> None:
        """Take bytes of the peer. Nonsense resets the stream."""
        if self._error is not None:
            return
        try:
            self._protocol.receive_data(data)
        except ProtocolError as exc:
            self._drop(exc, CloseCode.PROTOCOL)
            return
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)
        if self._writable is not None:
            self.resume_sending()
        if self._protocol.is_finished_by_peer:
            self._end_if_finished()

    def end_received(self) -> None:
        """Take the end of the peer's bytes."""
        self._has_ended_by_peer = True
        if not self._protocol.is_finished_by_peer:
            self._drop(PeerLost(f"node {self._peer} ended a stream in the middle of it"), CloseCode.PROTOCOL)
        self._forget_if_ended()

    def reset_received(self, code: int, *, has_ended_by_peer: bool) -> None:
        """Take the news that the peer dropped the stream, and whether bytes may still arrive."""
        self._has_ended_by_peer |= has_ended_by_peer
        if not (self._protocol.is_finished and self._protocol.is_finished_by_peer):
            self._protocol.drop_received()
        self._drop(
            PeerLost(f"node {self._peer} dropped the stream ({describe_code(code)})"), CloseCode.DROPPED
        )
        self._forget_if_ended()

    def fail(self, error: GridError) -> None:
        """Take the news that the connection is gone. Nothing is sent any more."""
        if isinstance(error, ConnectionClosed):
            self._protocol.drop_received()
        self._lose(error)
        self._wake()

    def resume_sending(self) -> None:
        """Let a waiting sender look again whether it may send."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # --- private ---

    def _end_if_finished(self) -> None:
        """End the byte channel once neither frames nor credit will follow from this side."""
        if self._protocol.is_finished and self._protocol.is_finished_by_peer and not self._has_ended:
            self._has_ended = True
            self._write_end()
            self._forget_if_ended()

    def _drop(self, error: GridError, code: CloseCode) -> None:
        self._lose(error)
        if not self._has_ended:
            self._has_ended = True
            self._write_reset(code)
        self._forget_if_ended()
        self._wake()

    def _lose(self, error: GridError) -> None:
        if self._error is None:
            self._error = error
            self._lost.set()

    def _forget_if_ended(self) -> None:
        if self._has_ended and self._has_ended_by_peer:
            self._forget()

    def _wake(self) -> None:
        self.resume_sending()
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)
