"""Credit: how many bytes of a stream may be on their way before the receiver has read them.

The QUIC library opens its own windows without asking whether anybody reads, so flow control is ours.
Both sides of a stream start with `CREDIT_BYTES`. Sending a frame spends its bytes on the wire; the
receiver grants them again, half a window at a time, as the application takes the frames. A sender may send
while it has any credit left: so a frame never has to be split, and the receiver holds at most
`CREDIT_BYTES` and one frame. Nothing here knows about sockets or time.
"""

from __future__ import annotations

import struct

from gridnode.errors import ProtocolError
from gridnode.units import MIB
from gridnode.wire.frames import Frame

# The bandwidth-delay product of 1 Gbit/s over 30 ms: more would only fill memory.
CREDIT_BYTES = 4 * MIB
# What a sender may hold at most. A peer that grants more is broken or wants us to buffer without end.
MAX_CREDIT_BYTES = 64 * MIB

_GRANT = struct.Struct("!I")


def encode_grant(grant_bytes: int) -> bytes:
    """Return the body of a credit frame."""
    return _GRANT.pack(grant_bytes)


def decode_grant(frame: Frame) -> int:
    """Return the bytes that a credit frame grants.

    Raises:
        ProtocolError: the frame is not a credit frame, or grants nothing.
    """
    if len(frame.body) != _GRANT.size or frame.header or frame.flags:
        raise ProtocolError(
            f"credit frame with {len(frame.header)} fields and {len(frame.body)} bytes of body"
        )
    grant_bytes: int = _GRANT.unpack(frame.body)[0]
    if grant_bytes == 0:
        raise ProtocolError("credit frame that grants 0 bytes")
    return grant_bytes


class SendCredit:
    """What this side may still send."""

    __slots__ = ("_available_bytes",)

    def __init__(self, initial_bytes: int = CREDIT_BYTES) -> None:
        self._available_bytes = initial_bytes

    @property
    def available_bytes(self) -> int:
        """Bytes left to spend; negative after a frame larger than what was left."""
        return self._available_bytes

    def spend(self, size_bytes: int) -> None:
        """Count a frame of `size_bytes` as sent. Only call this while credit is available."""
        assert self._available_bytes > 0, "sent without credit"
        self._available_bytes -= size_bytes

    def receive_grant(self, grant_bytes: int) -> None:
        """Add what the peer granted.

        Raises:
            ProtocolError: that is more than anybody may grant.
        """
        if self._available_bytes + grant_bytes > MAX_CREDIT_BYTES:
            raise ProtocolError(
                f"peer granted {grant_bytes} bytes on top of {self._available_bytes}, "
                f"at most {MAX_CREDIT_BYTES} may be open"
            )
        self._available_bytes += grant_bytes


class ReceiveCredit:
    """What the peer may still send, and what is to be granted to it."""

    __slots__ = ("_available_bytes", "_read_bytes", "_window_bytes")

    def __init__(self, window_bytes: int = CREDIT_BYTES) -> None:
        self._window_bytes = window_bytes
        self._available_bytes = window_bytes
        self._read_bytes = 0

    @property
    def available_bytes(self) -> int:
        """Bytes that the peer may still send; negative after a frame larger than what was left."""
        return self._available_bytes

    def receive(self, size_bytes: int) -> None:
        """Count a frame of `size_bytes` that arrived.

        Raises:
            ProtocolError: the peer had no credit left.
        """
        if self._available_bytes <= 0:
            raise ProtocolError(f"peer sent {size_bytes} bytes without credit")
        self._available_bytes -= size_bytes

    def read(self, size_bytes: int) -> None:
        """Count a frame of `size_bytes` that the application took."""
        self._read_bytes += size_bytes

    def take_grant(self) -> int:
        """Return the bytes to grant now, or 0 while less than half of the window was read."""
        if self._read_bytes * 2 < self._window_bytes:
            return 0
        grant_bytes, self._read_bytes = self._read_bytes, 0
        self._available_bytes += grant_bytes
        return grant_bytes
