"""Finding the router between this computer and the Internet."""

from __future__ import annotations

import sys

import pytest

from gridnode.net.gateways import (
    Gateway,
    choose_gateway,
    default_gateway,
    read_linux_routes,
    read_macos_route,
)
from gridnode.net.interfaces import LocalAddress

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
ROUTES = [("eth0", "192.168.1.1"), ("wlan0", "10.0.0.1")]


def local(interface: str, host: str, prefix_bits: int = 24) -> LocalAddress:
    return LocalAddress(interface=interface, host=host, prefix_bits=prefix_bits, has_multicast=True)


@pytest.mark.skipif(sys.byteorder == "big", reason="the table is that of a little-endian computer")
def test_the_default_route_with_the_least_metric_comes_first() -> None:
    table = HEAD + (
        "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
        "eth0\t00000000\tFE01A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n"
        "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
    )
    assert read_linux_routes(table) == [("eth0", "192.168.1.254"), ("wlan0", "192.168.1.1")]
    assert read_linux_routes(HEAD) == []


def test_the_route_of_a_mac_is_read() -> None:
    table = (
        "   route to: default\ndestination: default\n       mask: default\n"
        "    gateway: 192.168.1.1\n  interface: en0\n      flags: <UP,GATEWAY,DONE,STATIC,PRCLONING>\n"
    )
    assert read_macos_route(table) == [("en0", "192.168.1.1")]
    assert read_macos_route("  interface: utun3\n") == []
    assert read_macos_route("    gateway: link#12\n  interface: utun3\n") == []


def test_the_router_is_on_a_network_that_the_node_uses() -> None:
    cable, radio = local("eth0", "192.168.1.7"), local("wlan0", "10.0.0.7")
    assert choose_gateway(ROUTES, (radio, cable)) == Gateway(host="192.168.1.1", local_host="192.168.1.7")
    assert choose_gateway(ROUTES, (radio,)) == Gateway(host="10.0.0.1", local_host="10.0.0.7")
    assert choose_gateway(ROUTES, (local("eth0", "192.168.2.7"), local("eth0", "fd00::7", 64))) is None


def test_who_has_a_public_address_needs_no_router() -> None:
    assert not Gateway(host="8.8.4.1", local_host="8.8.4.4").is_needed
    assert Gateway(host="192.168.1.1", local_host="192.168.1.7").is_needed
    assert Gateway(host="100.64.0.1", local_host="100.64.0.7").is_needed


def test_nobody_leads_from_loopback_to_the_internet() -> None:
    assert default_gateway("127.0.0.1") is None
