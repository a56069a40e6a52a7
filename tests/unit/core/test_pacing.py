"""Bytes a second, with numbers for the clock."""

from __future__ import annotations

import pytest

from gridnode.core.pacing import Pacer


def test_what_a_second_allows_leaves_at_once_after_a_rest() -> None:
    pacer = Pacer(1000)
    assert pacer.spend(1000, now=100.0) == 0.0
    assert pacer.spend(1, now=100.0) == pytest.approx(0.001)


def test_large_messages_pass_and_are_paid_for() -> None:
    pacer = Pacer(1000)
    assert pacer.spend(5000, now=100.0) == 4.0
    assert pacer.spend(1000, now=100.0) == 5.0
    assert pacer.spend(1000, now=103.0) == 3.0


def test_in_the_long_run_the_rate_holds() -> None:
    pacer, now = Pacer(64_000), 100.0
    for _ in range(1000):
        now += pacer.spend(8_000, now=now)
    assert 1000 * 8_000 / (now - 100.0) == pytest.approx(64_000, rel=0.01)


def test_no_limit_waits_for_nothing_and_owes_nothing_later() -> None:
    pacer = Pacer(None)
    assert pacer.spend(10**12, now=100.0) == 0.0
    pacer.bytes_per_s = 1000
    assert pacer.spend(1000, now=100.0) == 0.0
