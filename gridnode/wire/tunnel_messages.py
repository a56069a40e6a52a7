"""Packets in the messages of a WebSocket: each behind its length (`u16`, big-endian), many in one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gridnode.errors import ProtocolError
from gridnode.units import KIB

MAX_MESSAGE_BYTES = 64 * KIB
"""As much as the kernel takes at once; sixteen packets a message cost a tenth of one packet a message."""

_LENGTH_BYTES = 2
MAX_PACKET_BYTES = 0xFFFF - _LENGTH_BYTES


def pack(packets: Iterable[bytes]) -> Iterator[bytes]:
    """Return the messages that carry `packets`, none of them longer than `MAX_PACKET_BYTES`."""
    pieces: list[bytes] = []
    size = 0
    for packet in packets:
        if pieces and size + _LENGTH_BYTES + len(packet) > MAX_MESSAGE_BYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
        pieces += [len(packet).to_bytes(_LENGTH_BYTES, "big"), packet]
        size += _LENGTH_BYTES + len(packet)
    if pieces:
        yield b"".join(pieces)


def unpack(message: bytes) -> list[bytes]:
    """Return the packets of a message.

    Raises:
        ProtocolError: a length leads beyond its end.
    """
    packets = []
    start = 0
    while start < len(message):
        begin = start + _LENGTH_BYTES
        end = begin + int.from_bytes(message[start:begin], "big")
        if begin > len(message) or end > len(message):
            raise ProtocolError(f"a packet of {end - begin} bytes in a message of {len(message)}")
        packets.append(message[begin:end])
        start = end
    return packets
