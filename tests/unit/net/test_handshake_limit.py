"""Strangers may begin only so many handshakes."""

from __future__ import annotations

import pytest

from gridnode.net.handshake_limit import MAX_ADDRESSES, HandshakeLimit, network_of


def test_burst_is_allowed_then_the_rate() -> None:
    limit = HandshakeLimit(per_s=1000, per_address_per_s=5, now=0.0)
    assert sum(limit.allows("192.0.2.1", now=0.0) for _ in range(100)) == 10
    assert sum(limit.allows("192.0.2.1", now=1.0) for _ in range(100)) == 5


def test_one_address_does_not_use_up_what_is_for_all() -> None:
    limit = HandshakeLimit(per_s=10, per_address_per_s=5, now=0.0)
    for _ in range(1000):
        limit.allows("192.0.2.1", now=0.0)
    assert limit.allows("192.0.2.2", now=0.0)


def test_all_addresses_together_are_limited() -> None:
    limit = HandshakeLimit(per_s=10, per_address_per_s=5, now=0.0)
    assert sum(limit.allows(f"192.0.2.{host}", now=0.0) for host in range(200)) == 20


def test_memory_is_bounded() -> None:
    limit = HandshakeLimit(per_s=1e9, per_address_per_s=5, now=0.0)
    for host in range(MAX_ADDRESSES + 500):
        limit.allows(f"10.{host >> 16}.{host >> 8 & 255}.{host & 255}", now=0.0)
    assert len(limit) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_network_of_an_address(host: str, network: str) -> None:
    assert network_of(host) == network
