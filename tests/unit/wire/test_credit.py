"""Credit: the receiver decides how much may be on its way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.errors import ProtocolError
from gridnode.wire.credit import (
    MAX_CREDIT_BYTES,
    ReceiveCredit,
    SendCredit,
    decode_grant,
    encode_grant,
)
from gridnode.wire.frames import Frame


def test_half_a_window_is_granted_at_once() -> None:
    credit = ReceiveCredit(100)
    credit.receive(60)
    credit.read(49)
    assert credit.take_grant() == 0
    credit.read(11)
    assert credit.take_grant() == 60
    assert credit.take_grant() == 0


def test_last_frame_may_overdraw_once() -> None:
    credit = ReceiveCredit(100)
    credit.receive(1000)
    assert credit.available_bytes == -900
    with pytest.raises(ProtocolError, match="without credit"):
        credit.receive(1)


def test_grant_above_the_limit_is_refused() -> None:
    credit = SendCredit(100)
    credit.receive_grant(MAX_CREDIT_BYTES - 100)
    with pytest.raises(ProtocolError, match="granted 1 bytes"):
        credit.receive_grant(1)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(1, body=encode_grant(0)),
        Frame(1, body=b""),
        Frame(1, body=b"12345"),
        Frame(1, {"x": 1}, encode_grant(1)),
        Frame(1, body=encode_grant(1), flags=1),
    ],
)
def test_malformed_grant_is_refused(frame: Frame) -> None:
    with pytest.raises(ProtocolError):
        decode_grant(frame)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(1, 300))
def test_both_accounts_agree_and_never_block_for_good(sizes: list[int], window: int) -> None:
    sender, receiver = SendCredit(window), ReceiveCredit(window)
    unread: list[int] = []
    for size in sizes:
        while sender.available_bytes <= 0:
            # Blocked: reading what has arrived must be enough to go on.
            assert unread
            receiver.read(unread.pop(0))
            if grant := receiver.take_grant():
                sender.receive_grant(grant)
        sender.spend(size)
        receiver.receive(size)
        unread.append(size)
        assert sum(unread) <= window + max(sizes)
        assert sender.available_bytes == receiver.available_bytes
