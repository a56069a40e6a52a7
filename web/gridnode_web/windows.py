"""A long table is sent in windows: the rows around those in view, whether scripts or links ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

# More than the tallest screen shows, so that scrolling seldom waits; few enough to paint at once.
WINDOW_ROWS = 60

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(Generic[T]):
    """Some consecutive rows of a table."""

    rows: Sequence[T]
    first: int
    """Position of the first of `rows` in the table, from 0."""

    total: int
    """Rows of the whole table."""

    @property
    def end(self) -> int:
        """Position behind the last of `rows`."""
        return self.first + len(self.rows)

    @property
    def is_whole(self) -> bool:
        """Whether these are all rows."""
        return len(self.rows) == self.total

    @property
    def previous(self) -> int | None:
        """First row of the window before this one, if there is one."""
        return max(0, self.first - WINDOW_ROWS) if self.first else None

    @property
    def next(self) -> int | None:
        """First row of the window behind this one, if there is one."""
        return self.end if self.end < self.total else None


def window(rows: Sequence[T], wanted: str) -> Window[T]:
    """Return the window of `rows` that begins at the row `wanted`, a number that a reader wrote."""
    first = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 9 else 0
    first = max(0, min(first, len(rows) - WINDOW_ROWS))
    return Window(rows=rows[first : first + WINDOW_ROWS], first=first, total=len(rows))
