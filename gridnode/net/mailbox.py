"""A queue between callbacks and tasks that can be closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Generic, TypeVar

from gridnode.errors import GridError

T = TypeVar("T")


def fresh(error: GridError) -> GridError:
    """Return a copy of `error` to raise: one instance raised in many tasks would mix their tracebacks."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    return copy


class Mailbox(Generic[T]):
    """Holds what callbacks put until tasks take it. Who puts must bound how much that can be."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._changed = asyncio.Event()
        self._error: GridError | None = None

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._items)

    def put(self, item: T) -> None:
        """Add `item` at the end."""
        self._items.append(item)
        self._changed.set()

    def discard(self, item: T) -> None:
        """Take `item` out again if nobody took it."""
        with contextlib.suppress(ValueError):
            self._items.remove(item)

    def close(self, error: GridError) -> None:
        """Drop what nobody took, and make every `get` raise `error` from now on."""
        if self._error is None:
            self._error = error
            self._changed.set()
        self._items.clear()

    def raise_if_closed(self) -> None:
        """Raise what `close` was called with, if it was."""
        if self._error is not None:
            raise fresh(self._error)

    async def get(self) -> T:
        """Take the first item; wait for one. Cancelling is safe: no item is lost.

        Raises:
            GridError: what `close` was called with.
        """
        while not self._items:
            self.raise_if_closed()
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()
