"""How people and peers write a relay."""

from __future__ import annotations

import pytest

from gridnode.core.ids import PeerId, show_peer
from gridnode.core.relays import DEFAULT_RELAY_PORT, Relay, parse_relay

PEER = PeerId(bytes(range(32)))


@pytest.mark.parametrize(
    ("text", "relay"),
    [
        ("relay.example.org", Relay("relay.example.org", DEFAULT_RELAY_PORT)),
        ("192.0.2.7:99", Relay("192.0.2.7", 99)),
        ("[2001:db8::7]", Relay("2001:db8::7", DEFAULT_RELAY_PORT)),
        ("[2001:db8::7]:99", Relay("2001:db8::7", 99)),
        (f"{show_peer(PEER)}@relay.example.org:99", Relay("relay.example.org", 99, PEER)),
    ],
)
def test_a_relay_is_read_and_written(text: str, relay: Relay) -> None:
    assert parse_relay(text) == relay
    assert parse_relay(str(relay)) == relay


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":99",
        "host:0",
        "host:70000",
        "host:x",
        "host:²",
        "a b",
        "a/b",
        "[host]:99",
        "[\t\ufffd",
        "x@host",
        "a" * 254,
    ],
)
def test_anything_else_is_told_how_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"like relay\.example\.org|peer id"):
        parse_relay(text)
