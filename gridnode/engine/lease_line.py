"""Leases that wait until others end, first come, first served. Pure."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gridnode.engine.requests import OpenLease
from gridnode.errors import NoCapacity

# Each is a session that somebody waits for; who comes later is better served by another node.
MAX_WAITING_LEASES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingLease:
    """A request that did not fit when it came."""

    request: OpenLease
    body: bytes
    deadline: float
    """On the line's clock: then it is refused."""


class LeaseLine:
    """The line of one worker. None overtakes another; who does not wait may take what is free.

    Args:
        clock: Seconds, from anywhere.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: deque[WaitingLease] = deque()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def add(self, request: OpenLease, body: bytes) -> None:
        """Let a request wait for its `wait_s` at most.

        Raises:
            NoCapacity: too many wait.
        """
        if len(self._waiting) >= MAX_WAITING_LEASES:
            raise NoCapacity(f"{len(self._waiting)} sessions wait for KV cache here already")
        deadline = self._clock() + request.wait_s
        self._waiting.append(WaitingLease(request=request, body=body, deadline=deadline))

    def take(self, fits: Callable[[OpenLease], bool]) -> WaitingLease | None:
        """Remove and return the first one if it fits, or one whose time is over; None if all have to wait."""
        now = self._clock()
        over = next((each for each in self._waiting if each.deadline <= now), None)
        if over is None and self._waiting and fits(self._waiting[0].request):
            over = self._waiting[0]
        if over is not None:
            self._waiting.remove(over)
        return over

    def drop(self, lease: int) -> None:
        """Forget a request: nobody waits for it any more."""
        self._waiting = deque(each for each in self._waiting if each.request.lease != lease)

    def next_deadline_s(self) -> float | None:
        """Return the seconds until somebody's time is over, or None if nobody waits."""
        if not self._waiting:
            return None
        return max(0.0, min(each.deadline for each in self._waiting) - self._clock())
