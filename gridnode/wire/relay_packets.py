"""Packets beside QUIC on the same socket: what relays forward, and probes of paths. Pure.

QUIC sets bit 0x40 of the first byte, these do not:

    0E 'D' tag payload      to a relay: forward `payload` to the peer with this tag
    0E 'd' tag payload      from a relay: `payload` comes from the peer with this tag
    0E 'x' tag              from a relay: no peer with this tag is registered here
    0F 'P' tag number mac   probe from the peer with this tag
    0F 'Q' tag number mac   its answer: as long, so that it amplifies nothing

Tags have 8 bytes, see `gridnode.core.relays.peer_tag`; numbers and MACs too. The payload is opaque to the
relay: a QUIC packet between two peers, or a probe.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

from gridnode.core.relays import TAG_BYTES

RELAY_BYTE = 0x0E
PROBE_BYTE = 0x0F
SECRET_BYTES = 16
NUMBER_BYTES = 8

_FORWARD = b"\x0eD"
_FORWARDED = b"\x0ed"
_ABSENT = b"\x0ex"
_PING = b"\x0fP"
_PONG = b"\x0fQ"
_HEAD_BYTES = 2 + TAG_BYTES
OVERHEAD_BYTES = _HEAD_BYTES
"""What a relayed packet is longer than its payload."""

_MAC_BYTES = 8
_SIGNED_BYTES = _HEAD_BYTES + NUMBER_BYTES
PROBE_BYTES = _SIGNED_BYTES + _MAC_BYTES


def forward(tag: bytes, payload: bytes) -> bytes:
    """Return the packet that asks a relay to send `payload` to the peer with `tag`."""
    return _FORWARD + tag + payload


def forwarded(tag: bytes, payload: bytes) -> bytes:
    """Return the packet in which a relay brings the `payload` of the peer with `tag`."""
    return _FORWARDED + tag + payload


def absent(tag: bytes) -> bytes:
    """Return the packet that says that no peer with `tag` is registered."""
    return _ABSENT + tag


class Relayed(NamedTuple):
    """A packet to or from a relay."""

    kind: str
    """`D`, `d` or `x`, see above."""

    tag: bytes
    payload: bytes


def parse_relayed(data: bytes) -> Relayed | None:
    """Return what a packet that begins with `RELAY_BYTE` says, or None if that is nothing."""
    head = data[:2]
    is_complete = len(data) == _HEAD_BYTES if head == _ABSENT else len(data) > _HEAD_BYTES
    if head not in (_FORWARD, _FORWARDED, _ABSENT) or not is_complete:
        return None
    return Relayed(chr(head[1]), data[2:_HEAD_BYTES], data[_HEAD_BYTES:])


class Probe(NamedTuple):
    """A probe or its answer, not yet believed."""

    is_answer: bool
    tag: bytes
    """Of who sent it."""

    number: int
    data: bytes
    """The whole packet."""

    def is_made_with(self, secret: bytes) -> bool:
        """Return whether who sent it knows `secret`."""
        return hmac.compare_digest(_mac(secret, self.data[:_SIGNED_BYTES]), self.data[_SIGNED_BYTES:])


def make_probe(*, is_answer: bool, tag: bytes, number: int, secret: bytes) -> bytes:
    """Return a probe of the peer with `tag`, or an answer, for whoever gave `secret`."""
    signed = (_PONG if is_answer else _PING) + tag + number.to_bytes(NUMBER_BYTES, "big")
    return signed + _mac(secret, signed)


def parse_probe(data: bytes) -> Probe | None:
    """Return the probe in a packet that begins with `PROBE_BYTE`, or None if there is none."""
    if len(data) != PROBE_BYTES or data[:2] not in (_PING, _PONG):
        return None
    number = int.from_bytes(data[_HEAD_BYTES:_SIGNED_BYTES], "big")
    return Probe(data[:2] == _PONG, data[2:_HEAD_BYTES], number, data)


def _mac(secret: bytes, signed: bytes) -> bytes:
    return hmac.new(secret, signed, hashlib.sha256).digest()[:_MAC_BYTES]
