"""How many steps are at a node at once, on average over the last seconds."""

from __future__ import annotations

import math

# Long enough to say something about the next minute, short enough to forget the last one.
WINDOW_S = 20.0


class QueueGauge:
    """Counts steps as they come and go.

    Args:
        now: Time in seconds, on the clock that all calls use.
    """

    def __init__(self, *, now: float) -> None:
        self._present = 0
        self._average = 0.0
        self._at = now

    def come(self, *, now: float) -> None:
        """Count a step that arrived."""
        self._advance(now)
        self._present += 1

    def go(self, *, now: float) -> None:
        """Count a step that left."""
        self._advance(now)
        self._present -= 1

    def average(self, *, now: float) -> float:
        """Return how many steps there were at once, newer seconds counting more."""
        self._advance(now)
        return self._average

    def _advance(self, now: float) -> None:
        kept = math.exp(-max(now - self._at, 0.0) / WINDOW_S)
        self._average = kept * self._average + (1.0 - kept) * self._present
        self._at = max(now, self._at)
