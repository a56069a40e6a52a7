"""Packets of NAT-PMP, by which a computer asks its router to map a port (RFC 6886). Pure."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from gridnode.errors import ProtocolError

NAT_PMP_PORT = 5351
MAX_ANSWER_BYTES = 16

_VERSION = 0
_ADDRESS, _MAP_UDP = 0, 1
_IS_ANSWER = 128
# Version, opcode, result, seconds since the router began.
_HEAD = struct.Struct("!BBHI")
# What a router says that has no address on the Internet, or one of a network like ours.
_HAS_NONE = (_VERSION, _IS_ANSWER | _ADDRESS, 3)
# RFC 6886, 3.5; 2 is what routers say that have it switched off.
_RESULTS = {
    1: "does not know this version of NAT-PMP",
    2: "refuses to map ports: NAT-PMP is switched off there",
    4: "has no room for another mapped port",
    5: "does not know this question of NAT-PMP",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedPort:
    """What a router says that it has mapped."""

    internal_port: int
    external_port: int
    """Which need not be the one that was asked for."""

    lease_s: int


def address_question() -> bytes:
    """Return the question for the router's address on the Internet."""
    return bytes([_VERSION, _ADDRESS])


def map_question(port: int, *, wanted: int, lease_s: int) -> bytes:
    """Return the question to map a UDP port of this computer.

    Args:
        wanted: The port outside that would be best.
        lease_s: For how long; 0 ends a mapping.
    """
    return struct.pack("!BBHHHI", _VERSION, _MAP_UDP, 0, port, wanted, lease_s)


def read_address(answer: bytes) -> str:
    """Return the IPv4 address that an answer to `address_question` tells; 0.0.0.0 if there is none now.

    Raises:
        ProtocolError: it is no such answer, or it refuses; the message follows "the router".
    """
    if len(answer) >= _HEAD.size and _HEAD.unpack_from(answer)[:3] == _HAS_NONE:
        return "0.0.0.0"
    return str(ipaddress.IPv4Address(_body(answer, _ADDRESS, 4)))


def read_mapped(answer: bytes) -> MappedPort:
    """Return what an answer to `map_question` tells.

    Raises:
        ProtocolError: it is no such answer, or it refuses; the message follows "the router".
    """
    internal, external, lease_s = struct.unpack("!HHI", _body(answer, _MAP_UDP, 8))
    return MappedPort(internal_port=internal, external_port=external, lease_s=lease_s)


def _body(answer: bytes, opcode: int, size_bytes: int) -> bytes:
    if len(answer) < _HEAD.size:
        raise ProtocolError(f"answered with {len(answer)} bytes")
    version, kind, result, _ = _HEAD.unpack_from(answer)
    # A router that speaks only the successor of NAT-PMP says so with its own version (RFC 6887, 9).
    if version != _VERSION:
        raise ProtocolError(_RESULTS[1])
    if result:
        raise ProtocolError(_RESULTS.get(result, f"answered with the unknown result {result}"))
    if kind != _IS_ANSWER | opcode or len(answer) < _HEAD.size + size_bytes:
        raise ProtocolError("answered something else than it was asked")
    return answer[_HEAD.size : _HEAD.size + size_bytes]
