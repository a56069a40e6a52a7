"""Waiting for conditions, never for time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(is_true: Callable[[], object], *, timeout_s: float = 20.0) -> None:
    """Return once `is_true()` holds; fail the test if it does not within `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not is_true():
            await asyncio.sleep(0.005)
