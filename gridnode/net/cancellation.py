"""What task groups of Python 3.11 and 3.12 forget."""

from __future__ import annotations

import asyncio


def raise_if_cancelled() -> None:
    """Raise the cancellation that a task group swallowed: it came while the group ended with an error.

    A loop that begins anew after such an error would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
