"""How fast bytes may leave: a budget that refills evenly. Pure."""

from __future__ import annotations

# What may go at once after a rest: a step of many tokens should not trickle.
BURST_S = 1.0


class Pacer:
    """A budget of bytes a second. Who spends more than there is waits until the debt is paid.

    So messages of any size pass, one after another, at the rate in the long run.
    """

    def __init__(self, bytes_per_s: float | None) -> None:
        self.bytes_per_s = bytes_per_s
        """May be changed at any time; None is without limit."""

        self._ahead_s = 0.0
        """The time until which everything spent so far is paid for."""

    def spend(self, num_bytes: int, *, now: float) -> float:
        """Take `num_bytes` from the budget; return the seconds to wait before they may leave."""
        if self.bytes_per_s is None:
            return 0.0
        start = max(self._ahead_s, now - BURST_S)
        self._ahead_s = start + num_bytes / self.bytes_per_s
        return max(0.0, self._ahead_s - now)
