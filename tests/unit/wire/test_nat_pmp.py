"""Packets of NAT-PMP."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.errors import ProtocolError
from gridnode.wire.nat_pmp import (
    MAX_ANSWER_BYTES,
    MappedPort,
    address_question,
    map_question,
    read_address,
    read_mapped,
)

EPOCH = b"\x00\x00\x00\x07"
ADDRESS = b"\x00\x80\x00\x00" + EPOCH + bytes([203, 0, 113, 7])
MAPPED = b"\x00\x81\x00\x00" + EPOCH + b"\x1c\xaa\xc0\x00\x00\x00\x03\x84"


def test_questions_are_those_of_the_specification() -> None:
    assert address_question() == b"\x00\x00"
    assert map_question(7338, wanted=7338, lease_s=900) == b"\x00\x01\x00\x00\x1c\xaa\x1c\xaa\x00\x00\x03\x84"


def test_answers_tell_the_address_and_the_port_outside() -> None:
    assert read_address(ADDRESS) == "203.0.113.7"
    assert read_mapped(MAPPED) == MappedPort(internal_port=7338, external_port=49152, lease_s=900)


def test_a_router_without_an_address_outside_has_none() -> None:
    assert read_address(b"\x00\x80\x00\x03" + EPOCH + bytes(4)) == "0.0.0.0"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "0 bytes"),
        (MAPPED[:12], "something else"),
        (ADDRESS + bytes(4), "something else"),
        (b"\x00\x81\x00\x02" + EPOCH, "switched off"),
        (b"\x00\x81\x00\x04" + EPOCH, "no room"),
        (b"\x00\x81\x01\x00" + EPOCH, "unknown result 256"),
        (b"\x02\x81\x00\x01" + EPOCH, "does not know this version"),
    ],
)
def test_refusals_and_nonsense_are_told_apart(answer: bytes, problem: str) -> None:
    with pytest.raises(ProtocolError, match=problem):
        read_mapped(answer)


@given(st.binary(max_size=2 * MAX_ANSWER_BYTES))
def test_no_answer_does_more_than_be_refused(answer: bytes) -> None:
    for read in (read_address, read_mapped):
        with contextlib.suppress(ProtocolError):
            read(answer)
