"""Relays: where they are, which of them a swarm meets at, and the addresses of peers behind them."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId, parse_peer_id, show_peer

DEFAULT_RELAY_PORT = 7339
"""UDP port of a relay; the same TCP port carries WebSocket."""

RENDEZVOUS_RELAYS = 3
"""Relays of a list that the nodes of a swarm register with: the nearest to the swarm, see `nearest`."""

HOME_RELAYS = 2
"""Relays that a node names in its announcement: one more than it takes to survive the loss of any."""

TAG_BYTES = 8
# A name of the DNS (RFC 1035, 2.3.4).
MAX_HOST_CHARACTERS = 253
# A network of addresses that nobody else has (RFC 4193, with random bits), so that a peer behind a relay
# is dialled like any other. No packet ever carries one of them.
_VIRTUAL = ipaddress.IPv6Network("fd9c:3a7e:51d4::/48")
_PEERS, _TUNNELS = 1, 2
_VIRTUAL_PREFIX = "fd9c:3a7e:51d4:"


_NAME = re.compile(rf"[\w.-]{{1,{MAX_HOST_CHARACTERS}}}")
_PORT = re.compile(r"[0-9]{1,5}")


class Relay(NamedTuple):
    """A relay, as a person or a peer names it."""

    host: str
    """IP address or name."""

    port: int
    peer_id: PeerId | None = None
    """Who it must prove to be; None takes whoever answers."""

    def __str__(self) -> str:
        place = str(Address(self.host, self.port))
        return f"{show_peer(self.peer_id)}@{place}" if self.peer_id else place

    @property
    def place(self) -> Address:
        """Host and port."""
        return Address(self.host, self.port)


def parse_relay(text: str) -> Relay:
    """Return the relay that `"relay.example.org"`, `"192.0.2.7:7339"` or `"ID@[2001:db8::7]:7339"` names.

    Raises:
        ValueError: `text` is none of these.
    """
    before, at, place = text.strip().rpartition("@")
    peer_id = parse_peer_id(before) if at else None
    host, port = place, str(DEFAULT_RELAY_PORT)
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif host.count(":") == 1:
        host, port = host.split(":")
    is_bracketed = place.startswith("[")
    is_named = _is_ip(host) if is_bracketed else bool(_NAME.fullmatch(host))
    if not is_named or not _PORT.fullmatch(port) or not 0 < int(port) <= 65535:
        raise ValueError(
            f"{text!r} is not a relay; write it like relay.example.org or 192.0.2.7:{DEFAULT_RELAY_PORT}"
        )
    return Relay(host, int(port), peer_id)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def nearest(relays: Iterable[Relay], swarm: str) -> list[Relay]:
    """Return `relays` with the nearest to a swarm first: all nodes that know the same ones agree.

    Each relay is as likely as any other to be near a swarm, and one that goes moves no other
    (rendezvous hashing, Thaler and Ravishankar 1998).
    """

    def distance(relay: Relay) -> bytes:
        return hashlib.sha256(f"{swarm} {relay.place}".encode()).digest()

    return sorted(relays, key=distance)


def peer_tag(peer_id: PeerId) -> bytes:
    """Return what packets through relays call a peer: `TAG_BYTES` bytes of a hash of its id.

    A relay lets nobody use the tag of a key that it has not proven to hold.
    """
    return hashlib.sha256(b"gridnode peer tag 1\0" + peer_id).digest()[:TAG_BYTES]


def virtual_address(tag: bytes) -> Address:
    """Return the address that stands for a peer, whichever way its packets take."""
    return Address(_host(_PEERS, int.from_bytes(tag, "big")), 1)


def tag_of(virtual: Address) -> bytes:
    """Return the tag of the peer that a virtual address stands for."""
    return ipaddress.ip_address(virtual.host).packed[-TAG_BYTES:]


def tunnel_address(number: int) -> Address:
    """Return the address that stands for the other end of a WebSocket of this computer."""
    return Address(_host(_TUNNELS, number), 1)


def is_virtual(host: str) -> bool:
    """Return whether `host` is one of the addresses above."""
    return host.startswith(_VIRTUAL_PREFIX)


def is_peer_address(address: Address) -> bool:
    """Return whether `address` is the virtual one of a peer."""
    return is_virtual(address.host) and virtual_address(tag_of(address)) == address


def _host(subnet: int, number: int) -> str:
    return str(ipaddress.IPv6Address(int(_VIRTUAL.network_address) | subnet << 64 | number))
