from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from descriptors import no_descriptors

from gridnode.core.addresses import Address
from gridnode.errors import BadInput
from gridnode.net.interfaces import (
    LocalAddress,
    bind_host,
    has_address,
    is_virtual,
    local_addresses,
    reachable_addresses,
)

LOOPBACK_INTERFACE = next(
    name
    for name, entries in psutil.net_if_addrs().items()
    if any(entry.address == "127.0.0.1" for entry in entries)
)


def test_an_address_that_is_bound_is_where_others_reach_it() -> None:
    assert reachable_addresses(Address("192.0.2.7", 7338)) == (Address("192.0.2.7", 7338),)


def test_loopback_leads_nowhere() -> None:
    assert local_addresses("127.0.0.1") == ()
    assert all(not local.host.startswith("127.") for local in local_addresses("0.0.0.0"))


def test_a_wildcard_of_ipv4_stands_for_ipv4_only() -> None:
    assert all(":" not in address.host for address in reachable_addresses(Address("0.0.0.0", 1)))


def test_a_wildcard_of_ipv6_stands_for_both() -> None:
    assert set(local_addresses("0.0.0.0")) <= set(local_addresses("::"))


@pytest.mark.parametrize(
    ("host", "bits", "other", "is_near"),
    [
        ("192.168.1.7", 24, "192.168.1.200", True),
        ("192.168.1.7", 24, "192.168.2.7", False),
        ("192.168.1.7", 24, "fd00::7", False),
        ("fd00::7", 64, "fd00::1:2:3:4", True),
        ("fd00::7", 64, "fd01::7", False),
    ],
)
def test_near_is_what_no_router_is_needed_for(host: str, bits: int, other: str, is_near: bool) -> None:
    local = LocalAddress(interface="eth0", host=host, prefix_bits=bits, has_multicast=True)
    assert local.is_on_link(other) is is_near


def test_an_address_is_here_until_the_system_says_otherwise() -> None:
    assert has_address("127.0.0.1")
    assert not has_address("192.0.2.7")
    with no_descriptors():
        assert has_address("192.0.2.7")


def test_bind_takes_an_address_or_an_interface() -> None:
    assert bind_host("192.0.2.7") == "192.0.2.7"
    assert bind_host(LOOPBACK_INTERFACE) == "127.0.0.1"


def test_bind_names_the_interfaces_that_there_are() -> None:
    with pytest.raises(BadInput, match=f"'wlan7': it is neither .* has .*{LOOPBACK_INTERFACE}"):
        bind_host("wlan7")


def make_interfaces(root: Path, *, bridges: tuple[str, ...], hardware: tuple[str, ...], **lower: str) -> Path:
    """Write what Linux tells of interfaces: bridges, devices, and which interface another is made of."""
    for name in bridges:
        (root / name / "bridge").mkdir(parents=True)
    for name in hardware:
        (root / name / "device").mkdir(parents=True)
    for name, below in lower.items():
        (root / name / f"lower_{below}").mkdir(parents=True)
    return root


def test_a_bridge_of_containers_is_virtual_whatever_its_name(tmp_path: Path) -> None:
    interfaces = make_interfaces(
        tmp_path, bridges=("docker0", "mine"), hardware=("eth0",), docker0="veth1", mine="veth2"
    )
    assert is_virtual("docker0", interfaces=interfaces)
    assert is_virtual("mine", interfaces=interfaces)


def test_a_bridge_to_the_lan_is_real(tmp_path: Path) -> None:
    interfaces = make_interfaces(
        tmp_path,
        bridges=("br-lan", "br0"),
        hardware=("eth0", "eth1"),
        **{"br-lan": "eth0"},
        br0="bond0",
        bond0="eth1",
    )
    assert not is_virtual("br-lan", interfaces=interfaces)
    assert not is_virtual("br0", interfaces=interfaces)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docker0", True),
        ("vmnet8", True),
        ("bridge100", True),
        ("en0", False),
        ("bridge0", False),
        ("wlan0", False),
    ],
)
def test_without_linux_names_decide(tmp_path: Path, name: str, expected: bool) -> None:
    assert is_virtual(name, interfaces=tmp_path) is expected
