"""One session in which this node is a hop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gridnode.control.status_schema import SessionStatus
from gridnode.core.announcements import Serving
from gridnode.core.ids import short
from gridnode.net.transport import Stream
from gridnode.wire.messages import OpenSession


@dataclass(eq=False, slots=True)
class HopSession:
    """This node's part in one session."""

    opening: OpenSession
    client: Stream
    lease: int
    cache_bytes: int
    """Bytes of the lease."""

    serving: Serving
    """What this node served when the session was opened."""

    opened_at: float
    stepped_at: float
    """Time of the last step on the event loop's clock."""

    patience: asyncio.Timeout
    """Ends the session while no step comes."""

    position: int = 0
    """Tokens in the caches."""

    push: Stream | None = None
    is_open: bool = True
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One step at a time: the order of steps is the order of positions."""

    def status(self, *, now: float) -> SessionStatus:
        """Return the session in the words of the door."""
        return SessionStatus(
            short=self.opening.session.hex()[:8],
            client=short(self.client.connection.peer_id),
            model=self.serving.model.name,
            start=self.opening.span.start,
            end=self.opening.span.end,
            position=self.position,
            max_tokens=self.opening.max_tokens,
            cache_bytes=self.cache_bytes,
            age_s=now - self.opened_at,
            idle_s=now - self.stepped_at,
        )
