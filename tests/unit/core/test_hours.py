"""Hours of the day."""

from __future__ import annotations

import pytest

from gridnode.core.hours import Hours, parse_hours


@pytest.mark.parametrize(
    ("text", "written", "inside", "outside"),
    [
        ("22:00-07:00", "22:00-07:00", [22 * 60, 0, 419], [420, 12 * 60, 1319]),
        ("9-17", "09:00-17:00", [540, 1019], [539, 1020]),
        ("18:30 - 24", "18:30-24:00", [1110, 1439], [0, 1109]),
        ("00:00-24:00", "00:00-24:00", [0, 1439], []),
    ],
)
def test_hours_hold_their_start_and_not_their_end(
    text: str, written: str, inside: list[int], outside: list[int]
) -> None:
    hours = parse_hours(text)
    assert str(hours) == written
    assert parse_hours(written) == hours
    assert all(minute in hours for minute in inside)
    assert not any(minute in hours for minute in outside)


@pytest.mark.parametrize("text", ["", "night", "25:00-07:00", "22:60-07:00", "22:00", "7-", "24:30-7"])
def test_what_are_no_hours_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="no hours like 22:00-07:00"):
        parse_hours(text)


@pytest.mark.parametrize("text", ["7:00-7", "24-00:00"])
def test_hours_have_a_length(text: str) -> None:
    with pytest.raises(ValueError, match="end when they begin"):
        parse_hours(text)


def test_hours_are_records() -> None:
    assert Hours(0, 60) == parse_hours("0-1")
