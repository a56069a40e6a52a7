"""How many sessions a node takes part in at once, and which."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from gridnode.core.ids import SessionId
from gridnode.errors import NoCapacity, ProtocolError


class SessionPlaces:
    """The places for sessions at one node.

    Args:
        limit: Sessions at once; each holds a stream and a lease. May be changed.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken: set[SessionId] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def take(self, session: SessionId) -> Iterator[None]:
        """Hold a place for `session`, from before its lease and its next hop, which take their time.

        Raises:
            NoCapacity: all are taken.
            ProtocolError: this session has one.
        """
        if len(self._taken) >= self.limit:
            raise NoCapacity(f"{self.limit} sessions are open on this node, no more are taken")
        if session in self._taken:
            raise ProtocolError("this session is open already")
        self._taken.add(session)
        self._idle.clear()
        try:
            yield
        finally:
            self._taken.remove(session)
            if not self._taken:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Return once no place is taken. Cancelling is safe."""
        await self._idle.wait()
