import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.core.spans import Span
from gridnode.engine.kv_pool import KVCachePool
from gridnode.errors import BadInput, CacheFull

BYTES = 10


def pool(total_tokens: int = 100) -> KVCachePool:
    return KVCachePool(Span(0, 4), bytes_per_token=BYTES, total_tokens=total_tokens)


def test_leases_are_accounted_exactly() -> None:
    """A18."""
    cache = pool()
    lease = cache.open(1, Span(0, 4), batch=2, max_tokens=30)
    assert lease.num_bytes == 2 * 30 * 4 * BYTES
    assert (cache.free_tokens, cache.num_leases) == (40, 1)
    cache.release(1)
    assert (cache.free_tokens, cache.free_bytes) == (100, 100 * 4 * BYTES)


def test_a_part_of_the_span_takes_a_part_of_the_bytes() -> None:
    cache = pool()
    cache.open(1, Span(1, 2), batch=1, max_tokens=100)
    assert cache.free_tokens == 75


def test_what_does_not_fit_is_refused_with_numbers_and_changes_nothing() -> None:
    cache = pool()
    cache.open(1, Span(0, 4), batch=1, max_tokens=70)
    with pytest.raises(CacheFull) as caught:
        cache.open(2, Span(0, 4), batch=1, max_tokens=31)
    assert (caught.value.wanted_tokens, caught.value.free_tokens) == (31, 30)
    with pytest.raises(CacheFull) as caught:
        cache.open(2, Span(0, 2), batch=1, max_tokens=61)
    assert caught.value.free_tokens == 60
    assert cache.free_tokens == 30


def test_releasing_twice_frees_once() -> None:
    cache = pool()
    cache.open(1, Span(0, 4), batch=1, max_tokens=50)
    cache.release(1)
    cache.release(1)
    cache.release(99)
    assert cache.free_tokens == 100


@pytest.mark.parametrize(
    ("lease", "span", "batch", "max_tokens"),
    [(1, Span(0, 4), 1, 1), (2, Span(3, 5), 1, 1), (2, Span(0, 4), 0, 1), (2, Span(0, 4), 1, 0)],
)
def test_nonsense_is_refused(lease: int, span: Span, batch: int, max_tokens: int) -> None:
    cache = pool()
    cache.open(1, Span(0, 4), batch=1, max_tokens=1)
    with pytest.raises(BadInput):
        cache.open(lease, span, batch=batch, max_tokens=max_tokens)
    assert cache.num_leases == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 60), st.integers(0, 3))))
def test_no_sequence_of_calls_loses_a_byte(calls: list[tuple[bool, int, int, int]]) -> None:
    """B8."""
    cache = pool()
    held: dict[int, int] = {}
    for is_open, lease, max_tokens, start in calls:
        if not is_open:
            cache.release(lease)
            held.pop(lease, None)
        elif lease not in held:
            wanted = max_tokens * (4 - start) * BYTES
            if wanted > cache.free_bytes:
                with pytest.raises(CacheFull):
                    cache.open(lease, Span(start, 4), batch=1, max_tokens=max_tokens)
            else:
                held[lease] = cache.open(lease, Span(start, 4), batch=1, max_tokens=max_tokens).num_bytes
                assert held[lease] == wanted
        assert cache.leased_bytes == sum(held.values()) <= cache.total_bytes
