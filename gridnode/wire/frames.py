"""Frames: `u32 length | u8 type | u8 flags | u16 header length | msgpack header | raw body`.

Integers are big-endian. `length` counts everything behind itself. Tensors travel as raw bytes
in the body, so that nobody on the way copies or interprets them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack

from gridnode.errors import FrameTooLarge, ProtocolError
from gridnode.units import KIB, MIB

# Headers hold names and numbers, never data. The u16 on the wire allows no more.
MAX_HEADER_BYTES = 64 * KIB - 1
# One prefill chunk of the widest model we serve: 256 tokens x 16384 x 4 bytes.
MAX_BODY_BYTES = 16 * MIB
MAX_FRAME_BYTES = MAX_BODY_BYTES + 64 * KIB
# Nested containers and long lists in a header cost more memory than their bytes.
MAX_HEADER_ITEMS = 4096

_PREFIX = struct.Struct("!IBBH")
_LENGTH_BYTES = 4
PREFIX_BYTES = _PREFIX.size


@dataclass(frozen=True, slots=True)
class Frame:
    """One length-prefixed unit on a stream."""

    type: int
    header: dict[str, Any] = field(default_factory=dict)
    body: bytes | bytearray | memoryview = b""
    flags: int = 0

    def __len__(self) -> int:
        """Return an upper estimate of the bytes on the wire, header included."""
        return PREFIX_BYTES + len(_pack_header(self.header)) + len(self.body)


def _pack_header(header: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(header) if header else b""
    if len(packed) > MAX_HEADER_BYTES:
        raise FrameTooLarge(len(packed), MAX_HEADER_BYTES)
    return packed


def encode_frame(frame: Frame) -> list[bytes | bytearray | memoryview]:
    """Return the pieces of `frame` to send one after another; the body is not copied.

    Raises:
        FrameTooLarge: the frame exceeds `MAX_FRAME_BYTES`.
    """
    header = _pack_header(frame.header)
    body_bytes = frame.body.nbytes if isinstance(frame.body, memoryview) else len(frame.body)
    length = PREFIX_BYTES - _LENGTH_BYTES + len(header) + body_bytes
    if length > MAX_FRAME_BYTES:
        raise FrameTooLarge(length, MAX_FRAME_BYTES)
    prefix = _PREFIX.pack(length, frame.type, frame.flags, len(header)) + header
    return [prefix, frame.body] if body_bytes else [prefix]


def _unpack_header(packed: bytes) -> dict[str, Any]:
    if not packed:
        return {}
    try:
        header = msgpack.unpackb(
            packed,
            max_array_len=MAX_HEADER_ITEMS,
            max_map_len=MAX_HEADER_ITEMS,
            max_ext_len=0,
            strict_map_key=True,
        )
    # unpackb raises many kinds, all of them ValueError but one for deep nesting.
    except (ValueError, RecursionError, msgpack.StackError) as exc:
        raise ProtocolError(f"frame header of {len(packed)} bytes is not msgpack: {exc}") from exc
    if not isinstance(header, dict):
        raise ProtocolError(f"frame header is a {type(header).__name__}, not a map")
    return header


class FrameDecoder:
    """Turns bytes, in pieces of any size, into frames.

    Holds at most one incomplete frame of `max_frame_bytes`; a longer one is refused
    as soon as its length is known.
    """

    def __init__(self, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._decoded_bytes = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the incomplete frame at the end."""
        return len(self._buffer)

    @property
    def decoded_bytes(self) -> int:
        """Bytes on the wire of all frames yielded so far."""
        return self._decoded_bytes

    def receive_data(self, data: bytes | bytearray | memoryview) -> Iterator[Frame]:
        """Yield the frames that `data` completes. Exhaust the iterator before the next call.

        Raises:
            FrameTooLarge: a frame announces more than the limit.
            ProtocolError: a header is not a msgpack map.
        """
        self._buffer += data
        start = 0
        try:
            while (frame := self._next_frame(start)) is not None:
                start += frame[1]
                self._decoded_bytes += frame[1]
                yield frame[0]
        finally:
            del self._buffer[:start]

    def _next_frame(self, start: int) -> tuple[Frame, int] | None:
        """Return the frame at `start` with its bytes on the wire, or None if it is incomplete."""
        available = len(self._buffer) - start
        if available < _LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[start : start + _LENGTH_BYTES], "big")
        if length > self._max_frame_bytes:
            raise FrameTooLarge(length, self._max_frame_bytes)
        if length < PREFIX_BYTES - _LENGTH_BYTES:
            raise ProtocolError(f"frame of {length} bytes is too short for its prefix")
        if available < _LENGTH_BYTES + length:
            return None
        _, frame_type, flags, header_bytes = _PREFIX.unpack_from(self._buffer, start)
        body_start = start + PREFIX_BYTES + header_bytes
        end = start + _LENGTH_BYTES + length
        if body_start > end:
            raise ProtocolError(f"frame header of {header_bytes} bytes in a frame of {length} bytes")
        # A view copies once where slices of the bytearray would copy twice; it must be gone
        # before the buffer may shrink.
        with memoryview(self._buffer) as view:
            packed_header = bytes(view[start + PREFIX_BYTES : body_start])
            body = bytes(view[body_start:end])
        header = _unpack_header(packed_header)
        return Frame(frame_type, header, body, flags), end - start
