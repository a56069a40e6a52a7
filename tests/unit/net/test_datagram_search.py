"""Which sizes of datagrams are tried, believed and given up."""

from __future__ import annotations

import pytest

from gridnode.net.datagram_search import (
    CONFIRM_INTERVAL_S,
    MAX_TRIES,
    SEARCH_AGAIN_S,
    DatagramSearch,
)


def search(largest_bytes: int = 16_000) -> DatagramSearch:
    return DatagramSearch(smallest_bytes=1200, largest_bytes=largest_bytes)


def probe(found: DatagramSearch, passes_bytes: int, *, now: float, is_size_used: bool = False) -> list[int]:
    """Probe over a way on which so many bytes pass; return the sizes that were tried."""
    tried = []
    while (size := found.next_probe(now=now, is_size_used=is_size_used)) is not None:
        tried.append(size)
        if size <= passes_bytes:
            found.answered(size, now=now)
        else:
            found.lost(size, now=now)
    return tried


@pytest.mark.parametrize(
    ("passes_bytes", "size_bytes"),
    [(1200, 1200), (1400, 1350), (1472, 1452), (8972, 8900), (65_507, 16_000)],
)
def test_the_largest_size_that_passes_is_found(passes_bytes: int, size_bytes: int) -> None:
    found = search()
    probe(found, passes_bytes, now=5.0)
    assert found.size_bytes == size_bytes


def test_a_size_is_tried_three_times_before_it_is_given_up() -> None:
    assert probe(search(), 1400, now=5.0) == [1350, *[1452] * MAX_TRIES]


def test_no_more_than_the_largest_size_is_tried() -> None:
    assert probe(search(largest_bytes=1400), 65_507, now=5.0) == [1350]


def test_one_probe_travels_at_a_time() -> None:
    found = search()
    assert found.next_probe(now=5.0, is_size_used=False) == 1350
    assert found.next_probe(now=6.0, is_size_used=True) is None


def test_what_did_not_pass_is_tried_again_later() -> None:
    found = search()
    probe(found, 1472, now=5.0)
    assert probe(found, 1472, now=5.0 + SEARCH_AGAIN_S - 0.1) == []
    assert probe(found, 9000, now=5.0 + SEARCH_AGAIN_S) == [4000, 8900, *[16_000] * MAX_TRIES]


def test_the_size_in_use_is_confirmed_while_it_is_used() -> None:
    found = search(largest_bytes=1452)
    probe(found, 1472, now=5.0)
    later = 5.0 + CONFIRM_INTERVAL_S
    assert probe(found, 1472, now=later - 0.1, is_size_used=True) == []
    assert probe(found, 1472, now=later, is_size_used=False) == []
    assert probe(found, 1472, now=later, is_size_used=True) == [1452]
    assert found.size_bytes == 1452


def test_large_datagrams_that_vanish_are_given_up_and_what_passes_is_found_again() -> None:
    found = search()
    probe(found, 8972, now=5.0)
    tried = probe(found, 1472, now=7.0, is_size_used=True)
    assert tried[:MAX_TRIES] == [8900] * MAX_TRIES
    assert found.size_bytes == 1452


def test_one_lost_probe_does_not_change_the_size() -> None:
    found = search(largest_bytes=1452)
    probe(found, 1472, now=5.0)
    assert found.next_probe(now=7.0, is_size_used=True) == 1452
    found.lost(1452, now=7.0)
    assert found.size_bytes == 1452
    assert found.next_probe(now=7.0, is_size_used=True) == 1452


def test_a_router_that_says_what_passes_saves_the_tries() -> None:
    found = search()
    probe(found, 8972, now=5.0)
    found.limit(1472, now=7.0)
    assert found.size_bytes == 1200
    assert probe(found, 1472, now=7.0) == [1350, 1452]


def test_nobody_can_make_datagrams_smaller_than_those_that_pass_everywhere() -> None:
    found = search()
    found.limit(68, now=5.0)
    assert found.size_bytes == 1200


def test_a_probe_that_a_router_refused_is_not_waited_for() -> None:
    found = search()
    probe(found, 1472, now=5.0)
    later = 5.0 + SEARCH_AGAIN_S
    assert found.next_probe(now=later, is_size_used=False) == 4000
    found.limit(1472, now=later)
    assert found.next_probe(now=later, is_size_used=False) is None
    found.answered(4000, now=later)
    assert found.size_bytes == 1452
