"""The addresses of this machine that others may reach."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from gridnode.core.addresses import Address
from gridnode.core.announcements import MAX_ADDRESSES

# Bridges of containers and virtual machines lead nowhere from another computer.
_VIRTUAL_PREFIXES = ("docker", "br-", "veth", "virbr", "cni", "podman", "lxc", "lxdbr")


def reachable_addresses(bound: Address) -> tuple[Address, ...]:
    """Return where peers may dial a node that listens at `bound`, which may be a wildcard."""
    host = ipaddress.ip_address(bound.host)
    if not host.is_unspecified:
        return (bound,)
    family = socket.AF_INET if host.version == 4 else socket.AF_INET6
    found = [
        Address(entry.address, bound.port)
        for name, entries in sorted(psutil.net_if_addrs().items())
        if not name.startswith(_VIRTUAL_PREFIXES)
        for entry in entries
        if entry.family == family and _is_reachable(entry.address)
    ]
    return tuple(found[:MAX_ADDRESSES])


def _is_reachable(host: str) -> bool:
    """Link-local addresses need a zone that only this machine knows."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return not (address.is_loopback or address.is_link_local or address.is_multicast)
