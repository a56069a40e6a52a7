"""One session in which this node is a hop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field

from gridnode.control.status_schema import SessionStatus
from gridnode.core.announcements import Serving
from gridnode.core.ids import short
from gridnode.errors import ConnectionClosed
from gridnode.net.transport import Stream
from gridnode.wire.messages import OpenSession


@dataclass(eq=False, slots=True)
class HopSession:
    """This node's part in one session."""

    opening: OpenSession
    client: Stream
    tasks: asyncio.TaskGroup
    """Ends with the session; an error in it ends the session, and is told to the client."""

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

    sending: asyncio.Task[None] | None = None
    """The last result of a prompt on its way out, while the next chunk is computed."""

    push: Stream | None = None
    is_open: bool = True
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One step at a time: the order of steps is the order of positions."""

    async def wait_sent(self) -> None:
        """Return once nothing waits to be sent: results leave in order, at most one waits for a slow link."""
        if self.sending is not None:
            await asyncio.wait([self.sending])
            if self.sending.cancelled() or self.sending.exception():
                raise ConnectionClosed("the result before this one could not be sent")
            self.sending = None

    def send_later(self, sending: Coroutine[None, None, None]) -> None:
        """Send while the next step is computed."""
        try:
            self.sending = self.tasks.create_task(sending, name="result")
        except RuntimeError:  # an error ends the session, and the group takes no more tasks
            sending.close()
            raise ConnectionClosed("the session ends while a step of it was computed") from None

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
