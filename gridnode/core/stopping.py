"""Ending an answer at a stop text, wherever the pieces of the text are cut."""

from __future__ import annotations

from collections.abc import Sequence


class StopFilter:
    """Passes text on, up to the first of `stops`; holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = ""
        """The stop text that was found; nothing more is passed on then."""

    def push(self, text: str) -> str:
        """Return what may be shown after `text` came."""
        if self.found:
            return ""
        held = self._held + text
        found = [(index, stop) for stop in self._stops if (index := held.find(stop)) >= 0]
        if found:
            index, self.found = min(found)
            self._held = ""
            return held[:index]
        keep = max((_overlap(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """Return what was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that begins `stop`, without being all of it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
