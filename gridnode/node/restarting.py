"""Work of one session that is short enough to be done again from the start when a hop is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gridnode.errors import PeerLost, PeerRefused
from gridnode.node.lasting_session import FAILOVER_DEADLINE_S
from gridnode.node.remote_session import RemoteSession
from gridnode.node.session_opener import SessionOpener, is_survivable

T = TypeVar("T")


async def restarting(opener: SessionOpener, work: Callable[[RemoteSession], Awaitable[T]]) -> T:
    """Return what `work` returns with a session of `opener`; start again on another route if a hop is lost.

    Raises:
        NoCapacity: there is no route, or none with room.
        PeerRefused, PeerLost: a hop failed in a way that no other could mend.
    """
    deadline: float | None = None
    while True:
        session: RemoteSession | None = None
        try:
            session = await opener.open(deadline=deadline)
            return await work(session)
        except (PeerRefused, PeerLost) as exc:
            now = asyncio.get_running_loop().time()
            deadline = deadline or now + FAILOVER_DEADLINE_S
            if not is_survivable(exc) or now >= deadline:
                raise
            opener.note_failure(exc)
        finally:
            if session is not None:
                await session.aclose()
