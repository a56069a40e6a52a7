"""How often somebody may do something. Pure: time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """A bucket that holds what may be done in a minute, and fills up evenly.

    Short bursts pass, the mean does not exceed the limit.
    """

    per_minute: int
    left: float
    filled_at: float

    def take(self, *, now: float) -> bool:
        """Take one if there is one; return whether there was."""
        self.fill(now=now)
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def fill(self, *, now: float) -> None:
        """Add what has come since the last time."""
        self.left = min(self.per_minute, self.left + (now - self.filled_at) * self.per_minute / 60)
        self.filled_at = now

    def wait_s(self) -> float:
        """Return the seconds from the last `take` or `fill` until there is one again."""
        return max(0.0, (1 - self.left) * 60 / self.per_minute)


class RateLimits:
    """One bucket for each of many, by name.

    Args:
        max_buckets: How many are remembered; beyond it the one that was not used for longest starts anew.
    """

    def __init__(self, *, max_buckets: int) -> None:
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def bucket(self, name: str, per_minute: int, *, now: float) -> TokenBucket:
        """Return the bucket of `name`, filled up to `now`; a full one if it is new or its limit changed."""
        bucket = self._buckets.get(name)
        if bucket is None or bucket.per_minute != per_minute:
            bucket = self._buckets[name] = TokenBucket(per_minute, per_minute, now)
            if len(self._buckets) > self._max_buckets:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(name)
        bucket.fill(now=now)
        return bucket
