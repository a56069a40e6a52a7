"""What one neighbour has not been told yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from gridnode.wire.messages import MAX_ANNOUNCEMENTS_PER_MESSAGE, Announce, SignedAnnouncement


class Outbox:
    """Announcements on their way to one neighbour: at most one per peer, the newest."""

    def __init__(self, announcements: Sequence[tuple[SignedAnnouncement, float]]) -> None:
        self._waiting = {signed.peer_id: (signed, made_at) for signed, made_at in announcements}
        self._is_closed = False
        self._ready = asyncio.Event()
        self.ended = asyncio.Event()
        """Set when the exchange with the neighbour is over."""
        if self._waiting:
            self._ready.set()

    def put(self, signed: SignedAnnouncement, made_at: float) -> None:
        """Tell `signed`, which was made at `made_at` on the loop's clock, instead of an older one."""
        self._waiting[signed.peer_id] = (signed, made_at)
        self._ready.set()

    def close(self) -> None:
        """Take nothing more: what waits is the last that the neighbour is told."""
        self._is_closed = True
        self._ready.set()

    async def take(self, now: Callable[[], float]) -> Announce | None:
        """Return some of what waits, with its present age; None once the outbox is closed and empty."""
        await self._ready.wait()
        if not self._waiting:
            return None
        count = min(len(self._waiting), MAX_ANNOUNCEMENTS_PER_MESSAGE)
        taken = [self._waiting.popitem()[1] for _ in range(count)]
        if not self._waiting and not self._is_closed:
            self._ready.clear()
        return Announce(
            announcements=tuple(replace(signed, age_s=max(now() - made_at, 0.0)) for signed, made_at in taken)
        )
