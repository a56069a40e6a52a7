"""Following a node: one loop that says what it found, however often the node goes away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from textual.message import Message

from gridnode.control.client import ControlClient
from gridnode.control.status_schema import NodeStatus
from gridnode.errors import GridError, NotRunning

FOLLOW_INTERVAL_S = 1.0


@dataclass
class StatusChanged(Message):
    """A newer view of the node: its status, or why there is none."""

    status: NodeStatus | None
    problem: str = ""
    is_absent: bool = False
    """Whether nothing answers at all: a node could be started."""

    def can_replace(self, message: Message) -> bool:
        """Return whether this one makes a waiting `message` unnecessary."""
        return isinstance(message, StatusChanged)


async def follow(client: ControlClient, post: Callable[[Message], object], hurry: asyncio.Event) -> None:
    """Post the node's status every second, at once after `hurry` is set; until cancelled."""
    while True:
        try:
            post(StatusChanged(await client.status()))
        except GridError as exc:
            post(StatusChanged(None, str(exc), is_absent=isinstance(exc, NotRunning)))
        hurry.clear()
        with contextlib.suppress(TimeoutError):
            # Not `wait_for`: in Python 3.11 it forgets to be cancelled when the hurry comes at once.
            async with asyncio.timeout(FOLLOW_INTERVAL_S):
                await hurry.wait()
