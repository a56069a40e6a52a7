from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.net.relay_limits import BURST_S, ByteBucket, RelayLimits


def test_a_burst_passes_and_then_the_rate_counts() -> None:
    bucket = ByteBucket(1000, now=0.0)
    assert bucket.take(int(1000 * BURST_S), now=0.0)
    assert not bucket.take(1, now=0.0)
    assert bucket.take(500, now=0.5)
    assert not bucket.take(500, now=0.6)


def test_silence_saves_up_no_more_than_a_burst() -> None:
    bucket = ByteBucket(1000, now=0.0)
    assert not bucket.take(int(1000 * BURST_S) + 1, now=1e6)


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0.0, 2.0)), max_size=60))
def test_nobody_gets_more_than_the_rate_and_one_burst(steps: list[tuple[int, float]]) -> None:
    bucket, now, passed = ByteBucket(1000, now=0.0), 0.0, 0
    for size, wait_s in steps:
        now += wait_s
        passed += size if bucket.take(size, now=now) else 0
    assert passed <= 1000 * (now + BURST_S) + 1e-6


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = ByteBucket(1000, now=100.0)
    assert bucket.take(2000, now=100.0)
    assert not bucket.take(1, now=0.0)
    assert not bucket.take(2000, now=100.5)


@pytest.mark.parametrize("name", ["nodes", "nodes_per_address", "node_bytes_per_s", "total_bytes_per_s"])
def test_a_relay_that_gives_nothing_is_no_relay(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        RelayLimits(**{name: 0})
