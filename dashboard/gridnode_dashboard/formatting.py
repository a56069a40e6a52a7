"""Values as short text for a terminal. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from gridnode.control.answer_schema import HopStatus

MAX_NAME_CHARACTERS = 32
BARS = "▁▂▃▄▅▆▇█"
# A meter turns yellow, then red, when little is left.
WARN_SHARE, ALARM_SHARE = 0.75, 0.9


def plain(text: str) -> str:
    """Return `text` without what could steer a terminal: strangers wrote it."""
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in text)


def short_name(text: str) -> str:
    """Return a name from elsewhere as one short line."""
    line = " ".join(plain(text).split())
    return line if len(line) <= MAX_NAME_CHARACTERS else line[: MAX_NAME_CHARACTERS - 1] + "…"


def format_tokens(num_tokens: int) -> str:
    """Return a number of tokens as on a meter: `"812"`, `"3.1k"`, `"8k"`."""
    if num_tokens < 1000:
        return str(num_tokens)
    return f"{num_tokens / 1000:.1f}".removesuffix(".0") + "k"


def format_context(used_tokens: int, limit_tokens: int) -> str:
    """Return the context meter: `"3.1k/8k"`; a dash stands for an unknown limit."""
    return f"{format_tokens(used_tokens)}/{format_tokens(limit_tokens) if limit_tokens else '-'}"


def meter(used: float, limit: float, width: int) -> Text:
    """Return a bar of `width` cells that is full at `limit`; its colour warns before that."""
    share = min(used / limit, 1.0) if limit else 0.0
    full = round(share * width)
    colour = "green" if share < WARN_SHARE else "yellow" if share < ALARM_SHARE else "red"
    return Text.assemble(("━" * full, colour), ("━" * (width - full), "grey37"), end="")


def bars(values: Sequence[float], top: float, width: int) -> str:
    """Return the newest `width` of `values` as a line of bars from 0 to `top`, newest at the right.

    Textual's Sparkline begins at the least value: 88 t/s beside 89 would look like nothing.
    """
    shown = values[-width:] if width > 0 else ()
    steps = len(BARS) - 1
    cells = (BARS[min(steps, math.ceil(value / top * steps)) if top > 0 else 0] for value in shown)
    return "".join(cells).rjust(max(width, 0))


def format_route(hops: Sequence[HopStatus]) -> str:
    """Return the hops of a route: `"aaaaaaaa 0:10 > bbbbbbbb 10:30"`."""
    return " > ".join(f"{plain(hop.short)} {hop.start}:{hop.end}" for hop in hops)


def format_milliseconds(duration_s: float | None) -> str:
    """Return a round-trip time for a column; a dash if it was not measured."""
    return "-" if duration_s is None else f"{duration_s * 1000:.1f}"
