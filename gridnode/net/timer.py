"""A timer that is set with every packet, and therefore has to be cheap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# asyncio's selector rounds up to a millisecond anyway, and uvloop turns less into a busy loop.
_MIN_DELAY_S = 0.001


class LazyTimer:
    """Calls `action` at or after a deadline that mostly moves away before it comes.

    A deadline that moves away keeps the old call, which then looks again: that happens once where setting
    a new one would happen with every packet. So `action` must check what is due.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._loop = asyncio.get_running_loop()
        self._call: asyncio.TimerHandle | None = None

    def set(self, delay_s: float) -> None:
        """Call `action` in `delay_s` seconds, or before."""
        due = self._loop.time() + max(_MIN_DELAY_S, delay_s)
        if self._call is not None:
            if self._call.when() <= due:
                return
            self._call.cancel()
        self._call = self._loop.call_at(due, self._fire)

    def cancel(self) -> None:
        """Do not call `action`. Safe to call twice."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _fire(self) -> None:
        self._call = None
        self._action()
