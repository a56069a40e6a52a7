"""Whether a node rests, and why: the word of its owner, and the circumstances."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from gridnode.control.status_schema import PauseStatus

logger = logging.getLogger("gridnode.node.pausing")


@dataclass(frozen=True, slots=True)
class _OwnersPause:
    reason: str
    timer: asyncio.TimerHandle | None
    """Ends it; None until somebody resumes."""


class Pausing:
    """The pauses of one node. It rests while there is one of either kind.

    Args:
        on_change: Called after every change.
    """

    def __init__(self, *, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._owners: _OwnersPause | None = None
        self._circumstances = ""
        self._changed = asyncio.Event()

    @property
    def reason(self) -> str:
        """Why the node rests, for people; empty if it does not."""
        return self._owners.reason if self._owners else self._circumstances

    def status(self) -> PauseStatus | None:
        """Return the present pause in the words of the door."""
        if not self.reason:
            return None
        timer = self._owners.timer if self._owners else None
        remaining_s = max(timer.when() - asyncio.get_running_loop().time(), 0.0) if timer else None
        return PauseStatus(reason=self.reason, remaining_s=remaining_s, is_owners=self._owners is not None)

    def pause(self, duration_s: float | None, reason: str) -> None:
        """Rest for `duration_s`, or until `resume`, because the owner wants it."""
        self._forget_owners()
        timer = None
        if duration_s is not None:
            timer = asyncio.get_running_loop().call_later(duration_s, self.resume)
        self._owners = _OwnersPause(reason, timer)
        logger.info("pausing: %s", reason)
        self._note_change()

    def resume(self) -> None:
        """End the pause that the owner wanted. Without one, nothing happens."""
        if self._owners is not None:
            logger.info("the pause is over: %s", self._owners.reason)
            self._forget_owners()
            self._note_change()

    def rest(self, reason: str) -> None:
        """Rest as long as the circumstances want it; without a reason, they want it no more."""
        if reason != self._circumstances:
            logger.info("pausing: %s", reason) if reason else logger.info(
                "no reason to pause any more: %s", self._circumstances
            )
            self._circumstances = reason
            self._note_change()

    async def wait_paused(self) -> None:
        """Return once the node is to rest. Cancelling is safe."""
        while not self.reason:
            await self._changed.wait()

    async def wait_resumed(self) -> None:
        """Return once the node is to serve. Cancelling is safe."""
        while self.reason:
            await self._changed.wait()

    def _forget_owners(self) -> None:
        if self._owners is not None and self._owners.timer is not None:
            self._owners.timer.cancel()
        self._owners = None

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()  # each waiter sees the change that follows its call
        self._on_change()
