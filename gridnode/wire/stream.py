"""One side of a stream, without any I/O: frames of the application, credit, and the end.

Frame types below `FIRST_APPLICATION_TYPE` belong to the transport; the application never sees them.
The end of a direction is a frame of its own, not the end of the byte channel under it: whoever has said
everything must still be able to grant credit for what it receives. And a channel that ends without it
was cut.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

from gridnode.errors import ProtocolError
from gridnode.wire.credit import CREDIT_BYTES, ReceiveCredit, SendCredit, decode_grant, encode_grant
from gridnode.wire.frames import MAX_FRAME_BYTES, PREFIX_BYTES, Frame, FrameDecoder, encode_frame

FIRST_APPLICATION_TYPE = 0x10
# Complete frames of the transport are never longer than this.
_MAX_TRANSPORT_FRAME_BYTES = PREFIX_BYTES + 4


class TransportFrame(IntEnum):
    """Types of frames that the transport keeps for itself."""

    CREDIT = 0x01
    """The body is a u32: bytes that the receiver of the frame may send in addition."""

    FINISH = 0x02
    """No more frames of the application follow."""


class StreamProtocol:
    """Turns frames into bytes and bytes into frames, and keeps the account of credit.

    Give received bytes to `receive_data`, then take frames with `next_frame` and send `data_to_send`.
    Send what `send` and `finish` return, in order.
    """

    def __init__(self, *, credit_bytes: int = CREDIT_BYTES, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._decoder = FrameDecoder(max_frame_bytes=max_frame_bytes)
        self._send_credit = SendCredit(credit_bytes)
        self._receive_credit = ReceiveCredit(credit_bytes)
        self._received: deque[tuple[Frame, int]] = deque()
        self._queued_bytes = 0
        self._is_finished = False
        self._is_finished_by_peer = False

    @property
    def has_credit(self) -> bool:
        """Whether a frame, of whatever size, may be sent now."""
        return self._send_credit.available_bytes > 0

    @property
    def is_finished(self) -> bool:
        """Whether this side said that no more frames follow."""
        return self._is_finished

    @property
    def is_finished_by_peer(self) -> bool:
        """Whether the peer said that no more frames follow; some may still wait in `next_frame`."""
        return self._is_finished_by_peer

    @property
    def buffered_bytes(self) -> int:
        """Bytes received and not taken yet."""
        return self._queued_bytes + self._decoder.buffered_bytes

    def send(self, frame: Frame) -> list[bytes | bytearray | memoryview]:
        """Return the pieces of `frame` and spend the credit for them.

        Raises:
            FrameTooLarge: the frame exceeds the limit.
            ValueError: the type of the frame is kept for the transport.
        """
        if frame.type < FIRST_APPLICATION_TYPE:
            raise ValueError(f"frame types below {FIRST_APPLICATION_TYPE:#04x} belong to the transport")
        assert not self._is_finished, "sent after finish"
        pieces = encode_frame(frame)
        # A memoryview counts items in len(), and tensors are views of wider ones.
        self._send_credit.spend(sum(memoryview(piece).nbytes for piece in pieces))
        return pieces

    def finish(self) -> bytes:
        """Return the bytes that say that no more frames follow."""
        self._is_finished = True
        return bytes(encode_frame(Frame(TransportFrame.FINISH))[0])

    def receive_data(self, data: bytes) -> None:
        """Take bytes of the peer, in pieces of any size.

        Raises:
            ProtocolError: they are not frames, or more than the peer may send. The stream is unusable then.
        """
        decoded_bytes = self._decoder.decoded_bytes
        for frame in self._decoder.receive_data(data):
            size_bytes = self._decoder.decoded_bytes - decoded_bytes
            decoded_bytes += size_bytes
            if frame.type < FIRST_APPLICATION_TYPE:
                self._receive_transport_frame(frame)
                continue
            if self._is_finished_by_peer:
                raise ProtocolError(f"peer sent a frame of type {frame.type:#04x} after finishing the stream")
            self._receive_credit.receive(size_bytes)
            self._received.append((frame, size_bytes))
            self._queued_bytes += size_bytes
        if (
            self._receive_credit.available_bytes <= 0
            and self._decoder.buffered_bytes > _MAX_TRANSPORT_FRAME_BYTES
        ):
            raise ProtocolError("peer sends a frame without credit")

    def _receive_transport_frame(self, frame: Frame) -> None:
        if frame.type == TransportFrame.CREDIT:
            self._send_credit.receive_grant(decode_grant(frame))
        elif frame.type == TransportFrame.FINISH and not frame.body:
            self._is_finished_by_peer = True
        else:
            raise ProtocolError(f"peer sent a frame of the unknown transport type {frame.type:#04x}")

    def next_frame(self) -> Frame | None:
        """Return the next frame for the application, or None if there is none yet."""
        if not self._received:
            return None
        frame, size_bytes = self._received.popleft()
        self._queued_bytes -= size_bytes
        self._receive_credit.read(size_bytes)
        return frame

    def data_to_send(self) -> bytes:
        """Return the credit to grant to the peer, as bytes to send, or nothing."""
        # A peer that has finished needs no credit any more.
        if self._is_finished_by_peer or not (grant_bytes := self._receive_credit.take_grant()):
            return b""
        return b"".join(encode_frame(Frame(TransportFrame.CREDIT, body=encode_grant(grant_bytes))))

    def drop_received(self) -> None:
        """Forget the frames that the application has not taken."""
        self._received.clear()
        self._queued_bytes = 0
