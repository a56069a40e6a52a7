"""Answers that wait until the swarm has room for them: of each model, first come, first served."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from itertools import takewhile

from gridnode.control.answer_schema import Waiting
from gridnode.core.route_wishes import ANYWHERE, RouteWishes
from gridnode.errors import (
    CacheFull,
    ErrorCode,
    GridError,
    ModelLoading,
    NoCapacity,
    NoRoute,
    PeerRefused,
)
from gridnode.node.session_opener import is_survivable

# Each holds its prompt in memory; who comes later is better served by another node.
MAX_WAITING_ANSWERS = 256
# Not every lease that ends at a peer is announced at once, so that the first in line tries again.
RETRY_S = 0.25
# What another node may do, and the same one will not.
_LASTING = frozenset({ErrorCode.NO_TRAINING, ErrorCode.PROTOCOL})


def may_pass(error: GridError) -> bool:
    """Return whether waiting may end `error`: a lease ends, a node comes, or comes back."""
    if isinstance(error, PeerRefused):
        return is_survivable(error) and error.reason not in _LASTING
    return isinstance(error, CacheFull | ModelLoading | NoRoute)


def is_lack_of_room(error: GridError) -> bool:
    """Return whether `error` would meet others, too, that ask for the same model."""
    reason = error.reason if isinstance(error, PeerRefused) else error.code
    return reason in (ErrorCode.CACHE_FULL, ErrorCode.NO_CAPACITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an answer waits for, to tell who else does."""

    model: str
    """The same for all names of one model."""

    routing: RouteWishes = ANYWHERE
    adapter: str = ""


@dataclass(slots=True, eq=False)
class _Ticket:
    wanted: Wanted
    lacks_room: bool = False
    """Whether it waits for room, or for others that do."""


class WaitingLine:
    """The line of one node.

    An answer waits for those before it that lack room on the same model, and for those that want exactly
    the same: what is being loaded, or has no route, stands in nobody else's way.
    """

    def __init__(self) -> None:
        self._line: list[_Ticket] = []
        self._moved = asyncio.Event()

    def __len__(self) -> int:
        """Return how many answers wait."""
        return len(self._line)

    async def enter(
        self, begin: Callable[[], Awaitable[None]], wanted: Callable[[], Wanted], max_wait_s: float
    ) -> AsyncGenerator[Waiting]:
        """Call `begin` until it has room; yield the place in the line whenever it changes.

        Closing the generator leaves the line.

        Args:
            wanted: Asked again while it waits: a name may mean more once a node has come.

        Raises:
            GridError: that of `begin`, if waiting cannot end it or has lasted `max_wait_s`.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + max_wait_s
        ticket = _Ticket(wanted())
        told: Waiting | None = None
        error: GridError | None = None
        try:
            while True:
                ticket.wanted = wanted()
                ahead = self._ahead(ticket) if max_wait_s else []
                if ahead:
                    ticket.lacks_room = any(other.lacks_room for other in ahead)
                if not ahead or clock() >= deadline:
                    try:
                        await begin()
                        return
                    except GridError as exc:
                        if not may_pass(exc) or clock() >= deadline:
                            raise
                        error = exc
                        ticket.lacks_room = is_lack_of_room(exc)
                self._queue(ticket, error)
                news = Waiting(position=len(ahead), text=str(error or "others wait for this model as well"))
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

    def _ahead(self, ticket: _Ticket) -> list[_Ticket]:
        """Return those that `ticket` waits for."""
        return [
            other
            for other in takewhile(lambda other: other is not ticket, self._line)
            if other.wanted.model == ticket.wanted.model
            and (other.lacks_room or other.wanted == ticket.wanted)
        ]

    def _queue(self, ticket: _Ticket, error: GridError | None) -> None:
        if ticket in self._line:
            return
        if len(self._line) >= MAX_WAITING_ANSWERS:
            raise error or NoCapacity(f"{len(self._line)} answers wait for room already; try again later")
        self._line.append(ticket)
