from gridnode.core.ngrams import NgramIndex


def test_what_followed_the_last_tokens_before_is_proposed() -> None:
    assert NgramIndex().propose([1, 2, 3, 4, 5, 9, 2, 3], 2) == (4, 5)


def test_the_longest_match_counts_and_of_equal_ones_the_last() -> None:
    assert NgramIndex().propose([7, 1, 2, 50, 8, 1, 2, 60, 7, 1, 2], 1) == (50,)
    assert NgramIndex().propose([1, 2, 50, 8, 1, 2, 60, 9, 1, 2], 1) == (60,)


def test_one_token_alone_is_chance() -> None:
    assert NgramIndex().propose([1, 2, 3, 1], 3) == ()


def test_nothing_is_proposed_to_a_short_or_new_text() -> None:
    for token_ids in ([], [1], [1, 2], [1, 2, 3, 4]):
        assert NgramIndex().propose(token_ids, 3) == ()


def test_a_text_that_goes_in_circles_goes_on_in_circles() -> None:
    assert NgramIndex().propose([1, 2, 3, 1, 2, 3, 1, 2], 7) == (3, 1, 2, 3, 1, 2, 3)
    assert NgramIndex().propose([5, 5, 5], 4) == (5, 5, 5, 5)


def test_a_growing_text_is_indexed_as_if_it_came_at_once() -> None:
    token_ids = [1, 2, 3, 1, 2, 4, 1, 2, 3, 1, 2, 1, 2, 3, 4, 4, 1, 2, 3]
    growing = NgramIndex()
    for end in range(len(token_ids) + 1):
        assert growing.propose(token_ids[:end], 3) == NgramIndex().propose(token_ids[:end], 3)
