"""Hours of the day, as people write them: `22:00-07:00`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MIDNIGHT = 24 * 60
# 24:00 is the end of a day.
_TIME = r"([01]?\d|2[0-3])(?::([0-5]\d))?|(24)(?::00)?"
_HOURS = re.compile(rf"\s*(?:{_TIME})\s*-\s*(?:{_TIME})\s*")


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of every day in minutes since midnight: `start` is included, `end` is not. May pass midnight."""

    start: int
    end: int

    def __contains__(self, minute: int) -> bool:
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def __str__(self) -> str:
        return f"{_clock(self.start)}-{_clock(self.end)}"


def parse_hours(text: str) -> Hours:
    """Return the hours that a person wrote: `22:00-07:00`, `9-17`, `18:30-24`.

    Raises:
        ValueError: they are none, or end when they begin.
    """
    found = _HOURS.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} are no hours like 22:00-07:00")
    start, end = _minute(*found.groups()[:3]), _minute(*found.groups()[3:])
    if start % _MIDNIGHT == end:
        raise ValueError(f"the hours {text!r} end when they begin")
    return Hours(start % _MIDNIGHT, end)


def _minute(hour: str | None, minute: str | None, end_of_day: str | None) -> int:
    return _MIDNIGHT if end_of_day else int(hour or 0) * 60 + int(minute or 0)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
