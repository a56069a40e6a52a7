from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.errors import ProtocolError
from gridnode.wire.tunnel_messages import MAX_MESSAGE_BYTES, MAX_PACKET_BYTES, pack, unpack


@given(st.lists(st.binary(max_size=2000), max_size=100))
def test_packets_come_out_as_they_went_in(packets: list[bytes]) -> None:
    messages = list(pack(packets))
    assert [packet for message in messages for packet in unpack(message)] == packets
    assert all(len(message) <= MAX_MESSAGE_BYTES for message in messages)


def test_the_largest_packet_fits_into_a_message() -> None:
    [message] = pack([bytes(MAX_PACKET_BYTES)])
    assert len(message) <= MAX_MESSAGE_BYTES


@given(st.binary(max_size=200))
def test_noise_is_refused_or_read_to_its_end(data: bytes) -> None:
    try:
        packets = unpack(data)
    except ProtocolError:
        return
    assert sum(2 + len(packet) for packet in packets) == len(data)


@pytest.mark.parametrize("message", [b"\x00", b"\x00\x05abc", b"\x00\x01a\xff\xff"])
def test_lengths_beyond_the_end_are_refused(message: bytes) -> None:
    with pytest.raises(ProtocolError, match="in a message of"):
        unpack(message)
