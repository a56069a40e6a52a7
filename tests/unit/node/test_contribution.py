"""What a node tells the swarm of its cache."""

from __future__ import annotations

from gridnode.node.contribution import is_news


def test_small_moves_of_free_cache_wait_for_the_next_announcement() -> None:
    assert not is_news(2048, 2000, 2048)
    assert is_news(2048, 1500, 2048)


def test_a_cache_that_is_empty_again_is_news_however_little_it_held() -> None:
    assert is_news(2000, 2048, 2048)
    assert not is_news(2048, 2048, 2048)


def test_room_in_a_cache_that_was_almost_full_is_news() -> None:
    assert is_news(0, 256, 2048)
    assert is_news(100, 200, 2048)
    assert not is_news(100, 150, 2048)
    assert not is_news(256, 0, 2048), "whoever comes is told"
