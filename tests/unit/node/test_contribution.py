"""What a node tells the swarm of its cache."""

from __future__ import annotations

from gridnode.node.contribution import is_news


def test_small_moves_of_free_cache_wait_for_the_next_announcement() -> None:
    assert not is_news(2048, 2000, 2048)
    assert is_news(2048, 1500, 2048)


def test_a_cache_that_is_empty_again_is_news_however_little_it_held() -> None:
    assert is_news(2000, 2048, 2048)
    assert not is_news(2048, 2048, 2048)
