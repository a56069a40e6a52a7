"""What this node may send to others, in bytes a second."""

from __future__ import annotations

import asyncio

from gridnode.core.ids import PeerId
from gridnode.core.pacing import Pacer


class Uplink:
    """The way out, shared by everything that this node serves.

    Args:
        me: This node: what it sends to itself leaves no computer.
        bytes_per_s: The limit; None is none.
    """

    def __init__(self, me: PeerId, bytes_per_s: int | None) -> None:
        self._me = me
        self._pacer = Pacer(bytes_per_s)

    def limit(self, bytes_per_s: int | None) -> None:
        """Take another limit from now on."""
        self._pacer.bytes_per_s = bytes_per_s

    async def wait_turn(self, peer_id: PeerId, num_bytes: int) -> None:
        """Return once `num_bytes` may leave for `peer_id`. Cancelled, they count as sent."""
        if peer_id != self._me:
            delay_s = self._pacer.spend(num_bytes, now=asyncio.get_running_loop().time())
            if delay_s:
                await asyncio.sleep(delay_s)
