"""Pings whose answers somebody waits for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from gridnode.errors import GridError, PeerLost
from gridnode.net.mailbox import fresh

# Longer than any path; QUIC repeats a lost ping several times before.
PING_TIMEOUT_S = 5.0


class Pings:
    """Numbers pings and matches their answers. Number 0 is for pings that nobody waits for."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[None]] = {}

    async def ask(self, send: Callable[[int], None], *, peer: str) -> float:
        """Send a ping by `send` and return the seconds until its answer. Cancelling is safe.

        Raises:
            PeerLost: there was no answer, or what `fail` was told.
        """
        loop = asyncio.get_running_loop()
        sent_at, number = loop.time(), next(self._numbers)
        answer = self._waiting[number] = loop.create_future()
        send(number)
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await answer
        except TimeoutError:
            raise PeerLost(f"{peer} did not answer within {PING_TIMEOUT_S:g} s") from None
        finally:
            del self._waiting[number]
        return loop.time() - sent_at

    def answered(self, number: int) -> None:
        """Take the answer to a ping; late ones are ignored."""
        answer = self._waiting.get(number)
        if answer is not None and not answer.done():
            answer.set_result(None)

    def fail(self, error: GridError) -> None:
        """Tell all who wait that there will be no answer."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(fresh(error))
