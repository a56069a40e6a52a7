from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gridnode.core.relays import TAG_BYTES
from gridnode.wire.relay_packets import (
    OVERHEAD_BYTES,
    PROBE_BYTE,
    PROBE_BYTES,
    RELAY_BYTE,
    SECRET_BYTES,
    Relayed,
    absent,
    forward,
    forwarded,
    make_probe,
    parse_probe,
    parse_relayed,
)

tags = st.binary(min_size=TAG_BYTES, max_size=TAG_BYTES)
secrets = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
numbers = st.integers(min_value=0, max_value=2**64 - 1)


@given(tags, st.binary(min_size=1, max_size=1500))
def test_relayed_packets_say_what_they_were_made_of(tag: bytes, payload: bytes) -> None:
    assert parse_relayed(forward(tag, payload)) == Relayed("D", tag, payload)
    assert parse_relayed(forwarded(tag, payload)) == Relayed("d", tag, payload)
    assert parse_relayed(absent(tag)) == Relayed("x", tag, b"")
    assert len(forward(tag, payload)) == OVERHEAD_BYTES + len(payload)


def test_a_full_datagram_fits_through_a_relay_into_the_smallest_mtu_of_ipv6() -> None:
    assert 1200 + OVERHEAD_BYTES + 48 <= 1280


@given(st.binary(max_size=64))
def test_noise_is_no_relayed_packet_or_a_whole_one(data: bytes) -> None:
    packet = parse_relayed(bytes([RELAY_BYTE]) + data)
    if packet is not None:
        assert packet.kind in "Ddx"
        assert len(packet.tag) == TAG_BYTES
        assert bool(packet.payload) == (packet.kind != "x")


@given(st.booleans(), tags, numbers, secrets)
def test_probes_are_believed_with_the_right_secret_only(
    is_answer: bool, tag: bytes, number: int, secret: bytes
) -> None:
    data = make_probe(is_answer=is_answer, tag=tag, number=number, secret=secret)
    probe = parse_probe(data)
    assert probe is not None
    assert (probe.is_answer, probe.tag, probe.number) == (is_answer, tag, number)
    assert probe.is_made_with(secret)
    assert not probe.is_made_with(bytes(SECRET_BYTES - 1) + bytes([secret[-1] ^ 1]))


@given(tags, numbers, secrets, st.integers(min_value=1, max_value=PROBE_BYTES - 1), st.integers(1, 255))
def test_a_probe_with_any_byte_changed_is_not_believed(
    tag: bytes, number: int, secret: bytes, position: int, change: int
) -> None:
    data = bytearray(make_probe(is_answer=False, tag=tag, number=number, secret=secret))
    data[position] ^= change
    probe = parse_probe(bytes(data))
    assert probe is None or not probe.is_made_with(secret)


@given(st.binary(max_size=64))
def test_noise_of_another_length_is_no_probe(data: bytes) -> None:
    if len(data) + 1 != PROBE_BYTES:
        assert parse_probe(bytes([PROBE_BYTE]) + data) is None


def test_an_answer_is_as_long_as_its_probe() -> None:
    made = [make_probe(is_answer=each, tag=bytes(8), number=1, secret=bytes(16)) for each in (True, False)]
    assert len(made[0]) == len(made[1]) == PROBE_BYTES
