"""The network interfaces of this machine, and the addresses of them that lead here from others."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from gridnode.core.addresses import Address
from gridnode.core.announcements import MAX_ADDRESSES
from gridnode.errors import BadInput

# Links of containers and virtual machines lead nowhere from another computer. On Linux a bridge is judged by
# what it connects, see `is_virtual`; bridge100 and following are those of virtual machines on macOS.
_VIRTUAL_PREFIXES = (
    *("docker", "veth", "podman", "cni", "flannel", "cali", "cilium"),
    *("virbr", "vmnet", "vboxnet", "vnet", "tap", "lxcbr", "lxdbr", "incusbr", "bridge1"),
)
_LINUX_INTERFACES = Path("/sys/class/net")
# Bonds of VLANs of bridges: nobody nests deeper.
_MAX_NESTING = 4

IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LocalAddress:
    """One address of an interface of this machine that is up and leads to other computers."""

    interface: str
    host: str
    prefix_bits: int
    """Bits that all computers on the same link share."""

    has_multicast: bool
    """Whether what is sent to a group reaches everybody on the link: not so through tunnels."""

    def is_on_link(self, host: str) -> bool:
        """Return whether `host` is reached through this interface without a router."""
        network = ipaddress.ip_network((self.host, self.prefix_bits), strict=False)
        return ipaddress.ip_address(host.partition("%")[0]) in network


def local_addresses(bound: str) -> tuple[LocalAddress, ...]:
    """Return where other computers reach a socket that is bound to the IP address `bound`.

    `0.0.0.0` stands for all IPv4 addresses, `::` for all addresses of both families.

    Raises:
        OSError: the system cannot be asked, as without a descriptor to spare.
    """
    wanted = ipaddress.ip_address(bound)
    return tuple(
        local
        for local in _all_addresses()
        if local.host == bound
        or (wanted.is_unspecified and (wanted.version == 6 or ipaddress.ip_address(local.host).version == 4))
    )


def has_address(host: str) -> bool:
    """Return whether this computer has the IP address `host` now. Asks the kernel, in microseconds.

    True if it cannot be asked, as without a descriptor to spare: who asks had the address before.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        probe = socket.socket(family, socket.SOCK_DGRAM)
    except OSError:
        return True
    with probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def reachable_addresses(bound: Address) -> tuple[Address, ...]:
    """Return where peers may dial a node that listens at `bound`, which may be a wildcard.

    Raises:
        OSError: the system cannot be asked, as without a descriptor to spare.
    """
    if not ipaddress.ip_address(bound.host).is_unspecified:
        return (bound,)
    found = local_addresses(bound.host)
    return tuple(Address(local.host, bound.port) for local in found[:MAX_ADDRESSES])


def bind_host(name: str) -> str:
    """Return the IP address that `--bind` names: an address, or an interface, whose first address counts.

    Raises:
        BadInput: there is no such interface, or it has no address.
    """
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    interfaces = psutil.net_if_addrs()
    hosts = [
        entry.address
        for family in (socket.AF_INET, socket.AF_INET6)  # an IPv4 address is reached by more computers
        for entry in interfaces.get(name, ())
        if entry.family == family and not ipaddress.ip_address(entry.address.partition("%")[0]).is_link_local
    ]
    if not hosts:
        known = ", ".join(sorted(interfaces))
        problem = "has no address" if name in interfaces else "is neither an IP address nor an interface"
        raise BadInput(f"cannot bind to {name!r}: it {problem}; this computer has {known}")
    return hosts[0]


def _all_addresses() -> Iterable[LocalAddress]:
    stats = psutil.net_if_stats()
    for name, entries in sorted(psutil.net_if_addrs().items()):
        if name not in stats or not stats[name].isup or is_virtual(name):
            continue
        flags = stats[name].flags.split(",")
        for entry in entries:
            if entry.family in (socket.AF_INET, socket.AF_INET6) and _leads_here(entry.address):
                yield LocalAddress(
                    interface=name,
                    host=entry.address,
                    prefix_bits=_prefix_bits(entry.address, entry.netmask),
                    has_multicast="multicast" in flags and "pointopoint" not in flags,
                )


def _leads_here(host: str) -> bool:
    """Link-local addresses need a zone that only this machine knows."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return not (address.is_loopback or address.is_link_local or address.is_multicast)


def _prefix_bits(host: str, netmask: str | None) -> int:
    bits = ipaddress.ip_address(host).max_prefixlen
    return int(ipaddress.ip_address(netmask)).bit_count() if netmask else bits


def is_virtual(name: str, *, interfaces: Path = _LINUX_INTERFACES) -> bool:
    """Return whether an interface connects only containers and virtual machines of this computer."""
    if (interfaces / name / "bridge").is_dir():
        return not _has_hardware(interfaces, name, _MAX_NESTING)
    return name.startswith(_VIRTUAL_PREFIXES)


def _has_hardware(interfaces: Path, name: str, depth: int) -> bool:
    """Return whether a device stands behind an interface, or behind one that it is made of (Linux)."""
    if (interfaces / name / "device").exists():
        return True
    lower = [path.name.removeprefix("lower_") for path in (interfaces / name).glob("lower_*")]
    return depth > 0 and any(_has_hardware(interfaces, each, depth - 1) for each in lower)
