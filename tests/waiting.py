"""Waiting for conditions, never for time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(is_true: Callable[[], object], *, timeout_s: float = 20.0) -> None:
    """Return once `is_true()` holds; fail the test if it does not within `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while True:
            looked_at = time.perf_counter()
            if is_true():
                return
            # Most of the time is for what is waited for, which often runs in this process.
            await asyncio.sleep(min(max(0.005, 4 * (time.perf_counter() - looked_at)), 0.1))


def eventually(
    is_true: Callable[[], object], *, timeout_s: float = 150.0, hint: Callable[[], object] = str
) -> float:
    """Wait until `is_true()` holds of other processes and return the seconds that it took.

    Args:
        timeout_s: When the test fails. Loading torch on a busy machine takes its time.
        hint: What the failure says.
    """
    began_at = time.monotonic()
    while not is_true():
        assert time.monotonic() - began_at < timeout_s, hint()
        time.sleep(0.05)
    return time.monotonic() - began_at
