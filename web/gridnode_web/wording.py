"""Numbers, times and the words of strangers, as pages show them. Escaping is the templates' part."""

from __future__ import annotations

import time
import unicodedata
from datetime import UTC, datetime

from gridnode.net.carrier import RELAYED
from gridnode.units import format_seconds

# What peers call themselves, on a page of many of them.
MAX_SHOWN_CHARACTERS = 40


STATES = ("online", "joining", "paused", "leaving")
PATHS = ("direct", "lan", "punched", "relay", "none")


def state_class(state: str) -> str:
    """Return the style of a peer's state; one that this version does not know looks unreachable."""
    return state if state in STATES else "unreachable"


def path_class(path: str) -> str:
    """Return the style of a link; one that this version does not know looks direct."""
    return "relay" if path in RELAYED else path if path in PATHS else "direct"


def plain(text: str, limit: int = MAX_SHOWN_CHARACTERS) -> str:
    """Return what a stranger wrote as one short line: no control or direction characters, cut with `…`."""
    # Other (C*) are controls, formats such as right-to-left overrides, surrogates; Z* but the space, lines.
    shown = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[: 4 * limit])
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def ago(at: float) -> str:
    """Return how long ago a time in seconds since 1970 was, for people."""
    passed_s = max(0.0, time.time() - at)
    if passed_s < 10:
        return "just now"
    if passed_s < 48 * 3600:
        return f"{format_seconds(round(passed_s))} ago"
    return f"{passed_s / 86400:.0f} days ago"


def iso(at: float) -> str:
    """Return a time in seconds since 1970 as ISO 8601, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def milliseconds(duration_s: float) -> str:
    """Return a round-trip time with two significant digits: `"0.42 ms"`, `"38 ms"`."""
    ms = duration_s * 1000
    return f"{ms:.2g} ms" if ms < 10 else f"{ms:.0f} ms"


def count(number: float) -> str:
    """Return a large number in few characters: `"8,192"`, `"1.2 M"`."""
    for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number:,.0f}"
