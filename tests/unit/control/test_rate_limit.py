"""How often somebody may do something."""

from __future__ import annotations

from gridnode.control.rate_limit import RateLimits


def test_a_burst_passes_and_then_an_even_flow() -> None:
    bucket = RateLimits(max_buckets=4).bucket("a", 60, now=1000.0)
    assert [bucket.take(now=1000.0) for _ in range(61)] == [True] * 60 + [False]
    assert bucket.wait_s() == 1.0
    assert not bucket.take(now=1000.9)
    assert bucket.take(now=1001.0)
    assert not bucket.take(now=1001.0)


def test_no_more_than_a_minutes_worth_is_saved_up() -> None:
    bucket = RateLimits(max_buckets=4).bucket("a", 5, now=0.0)
    assert sum(bucket.take(now=9999.0) for _ in range(20)) == 5


def test_everybody_has_a_bucket_of_their_own() -> None:
    limits = RateLimits(max_buckets=4)
    assert limits.bucket("a", 1, now=0.0).take(now=0.0)
    assert not limits.bucket("a", 1, now=0.0).take(now=0.0)
    assert limits.bucket("b", 1, now=0.0).take(now=0.0)


def test_a_new_limit_counts_at_once() -> None:
    limits = RateLimits(max_buckets=4)
    assert limits.bucket("a", 1, now=0.0).take(now=0.0)
    assert limits.bucket("a", 2, now=0.0).take(now=0.0)


def test_memory_is_bounded_and_the_busy_are_remembered() -> None:
    limits = RateLimits(max_buckets=2)
    limits.bucket("busy", 1, now=0.0).take(now=0.0)
    for number in range(100):
        limits.bucket(str(number), 1, now=0.0)
        assert limits.bucket("busy", 1, now=0.0).left == 0
