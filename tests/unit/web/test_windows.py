from __future__ import annotations

import pytest

from gridnode_web.windows import WINDOW_ROWS, window


def test_a_short_table_is_whole() -> None:
    found = window(range(10), "")
    assert found.is_whole
    assert (found.previous, found.next) == (None, None)


def test_windows_follow_each_other_without_gaps() -> None:
    rows = range(2 * WINDOW_ROWS + 7)
    first = window(rows, "")
    second = window(rows, str(first.next))
    last = window(rows, str(second.next))
    assert (first.first, second.first, last.end) == (0, WINDOW_ROWS, len(rows))
    assert last.next is None
    assert len(last.rows) == WINDOW_ROWS


@pytest.mark.parametrize("wanted", ["-5", "x", "99999999", "9" * 50, "٣"])
def test_what_a_reader_wrote_cannot_lead_out_of_the_table(wanted: str) -> None:
    found = window(range(100), wanted)
    assert len(found.rows) == WINDOW_ROWS
    assert 0 <= found.first <= 100 - WINDOW_ROWS
