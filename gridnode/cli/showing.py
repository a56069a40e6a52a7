"""Text of strangers, numbers and tables on the way to a terminal. Pure but for the consoles."""

from __future__ import annotations

import msgspec
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

MAX_NAME_CHARACTERS = 32


def stderr() -> Console:
    """Return the console for people: standard error, colours as NO_COLOR and the terminal allow."""
    return Console(stderr=True, highlight=False)


def stdout() -> Console:
    """Return the console for data."""
    return Console(highlight=False)


def printable(text: str) -> str:
    """Return `text` without what could steer a terminal: it was written by strangers."""
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in text)


def name_text(name: str) -> Text:
    """Return a name as one short piece of text, never as markup."""
    line = printable(name).replace("\n", " ").replace("\t", " ")
    cut = line if len(line) <= MAX_NAME_CHARACTERS else line[: MAX_NAME_CHARACTERS - 1] + "…"
    return Text(cut)


def plain_table(
    *columns: str, right: frozenset[str] = frozenset(), folded: frozenset[str] = frozenset()
) -> Table:
    """Return an empty table without lines: columns of words, as other commands print them.

    Args:
        right: Columns of numbers.
        folded: Columns that take several lines where the terminal is too narrow for all.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        justify: JustifyMethod = "right" if column in right else "left"
        table.add_column(column, justify=justify, no_wrap=column not in folded, overflow="fold")
    return table


def print_json(record: object) -> None:
    """Print a record as one line of JSON, at once."""
    print(msgspec.json.encode(record).decode(), flush=True)


def milliseconds(duration_s: float | None) -> str:
    """Return a duration in milliseconds for a column: `"0.41"`, `"12.5"`, `"-"`."""
    if duration_s is None:
        return "-"
    value = duration_s * 1000
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"
