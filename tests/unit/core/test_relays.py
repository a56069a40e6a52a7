from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.core.addresses import Address
from gridnode.core.ids import PEER_ID_BYTES, PeerId, show_peer
from gridnode.core.relays import (
    DEFAULT_RELAY_PORT,
    TAG_BYTES,
    Relay,
    is_peer_address,
    is_virtual,
    nearest,
    parse_relay,
    peer_tag,
    tag_of,
    tunnel_address,
    virtual_address,
)

ID = PeerId(bytes(range(PEER_ID_BYTES)))


@pytest.mark.parametrize(
    ("text", "relay"),
    [
        ("relay.example.org", Relay("relay.example.org", DEFAULT_RELAY_PORT)),
        ("192.0.2.7:443", Relay("192.0.2.7", 443)),
        ("[2001:db8::7]:443", Relay("2001:db8::7", 443)),
        (f"{show_peer(ID)}@192.0.2.7", Relay("192.0.2.7", DEFAULT_RELAY_PORT, ID)),
    ],
)
def test_a_relay_is_a_host_with_or_without_port_and_id(text: str, relay: Relay) -> None:
    assert parse_relay(text) == relay
    assert parse_relay(str(relay)) == relay


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "host:0",
        "host:99999",
        "host:x",
        "http://host",
        "2001:db8::7:1x",
        "abc@host",
        "a b",
        "x" * 300,
    ],
)
def test_what_is_no_relay_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_relay(text)


def test_nodes_that_know_the_same_relays_agree_on_the_nearest_in_whatever_order_they_were_given() -> None:
    relays = [Relay(f"r{i}", 1) for i in range(9)]
    assert nearest(relays, "swarm") == nearest(reversed(relays), "swarm")
    assert nearest(relays, "swarm") != nearest(relays, "other")


def test_a_relay_that_goes_moves_no_other() -> None:
    relays = [Relay(f"r{i}", 1) for i in range(9)]
    ranked = nearest(relays, "swarm")
    assert nearest([relay for relay in relays if relay != ranked[1]], "swarm") == [ranked[0], *ranked[2:]]


def test_swarms_spread_over_all_relays() -> None:
    relays = [Relay(f"r{i}", 1) for i in range(5)]
    first = [nearest(relays, f"swarm {i}")[0] for i in range(500)]
    assert all(60 < first.count(relay) < 140 for relay in relays)


@given(st.binary(min_size=TAG_BYTES, max_size=TAG_BYTES))
def test_virtual_addresses_stand_for_tags(tag: bytes) -> None:
    address = virtual_address(tag)
    assert tag_of(address) == tag
    assert is_virtual(address.host)
    assert is_peer_address(address)


@given(st.integers(min_value=1, max_value=2**40))
def test_tunnels_are_not_mixed_up_with_peers(number: int) -> None:
    address = tunnel_address(number)
    assert is_virtual(address.host)
    assert not is_peer_address(address)


def test_real_addresses_are_not_virtual() -> None:
    for host in ("127.0.0.1", "::1", "fd00::1", "2001:db8::7"):
        assert not is_virtual(host)
        assert not is_peer_address(Address(host, 1))


def test_tags_of_peers_differ() -> None:
    tags = {peer_tag(PeerId(bytes([i]) * PEER_ID_BYTES)) for i in range(200)}
    assert len(tags) == 200
