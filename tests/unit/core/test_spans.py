import pytest

from gridnode.core.spans import MAX_BLOCKS, Span, coverage, gaps, parse_span


def test_a_span_is_half_open() -> None:
    span = Span(2, 5)
    assert list(span) == [2, 3, 4]
    assert len(span) == 3
    assert 2 in span
    assert 5 not in span


def test_a_span_contains_its_parts_only() -> None:
    assert Span(3, 5) in Span(2, 5)
    assert Span(2, 6) not in Span(2, 5)


@pytest.mark.parametrize(("start", "end"), [(3, 3), (4, 2), (-1, 2), (0, MAX_BLOCKS + 1)])
def test_what_is_no_span_is_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match=f"{start}:{end}"):
        Span(start, end)


def test_spans_are_read_as_they_are_printed() -> None:
    assert parse_span(str(Span(0, 10))) == Span(0, 10)
    assert parse_span(" 0 : 10 ") == Span(0, 10)


@pytest.mark.parametrize("text", ["", "10", "0-10", "a:b", "5:5", "0:10:20"])
def test_text_that_is_no_span_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"span"):
        parse_span(text)


def test_coverage_counts_overlapping_spans() -> None:
    assert coverage([Span(0, 3), Span(2, 4)], 5) == [1, 1, 2, 1, 0]


def test_coverage_ignores_what_lies_behind_the_model() -> None:
    assert coverage([Span(0, 9), Span(5, 9)], 2) == [1, 1]


def test_gaps_are_the_maximal_uncovered_spans() -> None:
    assert gaps([Span(2, 4), Span(3, 5)], 8) == (Span(0, 2), Span(5, 8))
    assert gaps([Span(0, 8)], 8) == ()
    assert gaps([], 3) == (Span(0, 3),)
