"""How fast tokens come right now. Pure."""

from __future__ import annotations

from collections import deque

# Long enough that single tokens do not make the number jump, short enough to show a slow hop.
WINDOW_S = 3.0


class LiveSpeed:
    """Tokens per second over the last seconds of one answer."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self._arrivals: deque[tuple[float, int]] = deque()

    def note(self, num_tokens: int, now: float) -> float:
        """Count tokens that came at `now` and return the speed; 0 until there is something to compare."""
        self.num_tokens += num_tokens
        self._arrivals.append((now, self.num_tokens))
        while self._arrivals[0][0] < now - WINDOW_S:
            self._arrivals.popleft()
        first_at, first = self._arrivals[0]
        return (self.num_tokens - first) / (now - first_at) if now > first_at else 0.0
