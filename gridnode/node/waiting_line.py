"""Answers that wait until the swarm has room for them, first come, first served."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from gridnode.control.answer_schema import Waiting
from gridnode.errors import CacheFull, GridError, ModelLoading, NoCapacity, NoRoute, PeerRefused
from gridnode.node.session_opener import is_survivable

# Each holds its prompt in memory; who comes later is better served by another node.
MAX_WAITING_ANSWERS = 256
# Not every lease that ends at a peer is announced at once, so that the first in line tries again.
RETRY_S = 0.25


def may_pass(error: GridError) -> bool:
    """Return whether waiting may end `error`: a lease ends, a node comes, or comes back."""
    if isinstance(error, PeerRefused):
        return is_survivable(error)
    return isinstance(error, CacheFull | ModelLoading | NoRoute)


class WaitingLine:
    """The line of one node."""

    def __init__(self) -> None:
        self._line: list[object] = []
        self._moved = asyncio.Event()

    def __len__(self) -> int:
        """Return how many answers wait."""
        return len(self._line)

    async def enter(self, begin: Callable[[], Awaitable[None]], max_wait_s: float) -> AsyncGenerator[Waiting]:
        """Call `begin` until it has room; yield the place in the line whenever it changes.

        Closing the generator leaves the line.

        Raises:
            GridError: that of `begin`, if waiting cannot end it or has lasted `max_wait_s`.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + max_wait_s
        ticket = object()
        told: Waiting | None = None
        error: GridError | None = None
        try:
            while True:
                ahead = self._ahead(ticket) if max_wait_s else 0
                if ahead == 0 or clock() >= deadline:
                    try:
                        await begin()
                        return
                    except GridError as exc:
                        if not may_pass(exc) or clock() >= deadline:
                            raise
                        error = exc
                self._queue(ticket, error)
                news = Waiting(position=ahead, text=str(error) if error else "others wait for room as well")
                if news != told:
                    told = news
                    yield news
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(min(clock() + RETRY_S, deadline)):
                        await self._moved.wait()
        finally:
            if ticket in self._line:
                self._line.remove(ticket)
                self._moved.set()
                self._moved = asyncio.Event()

    def _ahead(self, ticket: object) -> int:
        return self._line.index(ticket) if ticket in self._line else len(self._line)

    def _queue(self, ticket: object, error: GridError | None) -> None:
        if ticket in self._line:
            return
        if len(self._line) >= MAX_WAITING_ANSWERS:
            raise error or NoCapacity(f"{len(self._line)} answers wait for room already; try again later")
        self._line.append(ticket)
