"""Letting the node rest when its owner needs the computer, or would rather not have it work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gridnode.core.politeness import Circumstances, Politeness, Terms
from gridnode.node.circumstances import look

logger = logging.getLogger("gridnode.node.courtesy")

# Whoever comes back to the computer waits this long until the node begins to yield.
LOOK_INTERVAL_S = 5.0


class Courtesy:
    """Watches the computer. Run it once, with `run`.

    Args:
        rest: Called with the reason to pause, empty if there is none, after every look.
        look: Returns how the computer is; called in a thread.
    """

    def __init__(
        self,
        terms: Terms,
        *,
        rest: Callable[[str], None],
        look: Callable[[Terms], Circumstances] = look,
        look_interval_s: float = LOOK_INTERVAL_S,
    ) -> None:
        self._rest = rest
        self._look = look
        self._look_interval_s = look_interval_s
        self._agreed = asyncio.Event()
        self.agree(terms)

    def agree(self, terms: Terms) -> None:
        """Keep `terms` from now on."""
        self._terms = terms
        self._politeness = Politeness(terms)
        self._told_unknown: list[str] = []
        self._agreed.set()

    async def run(self) -> None:
        """Look again and again until cancelled, as long as there is something to look at."""
        while True:
            self._agreed.clear()
            interval_s = await self._look_once()
            try:
                async with asyncio.timeout(interval_s):
                    await self._agreed.wait()
            except TimeoutError:
                pass

    async def _look_once(self) -> float | None:
        """Return the seconds until the next look; None if only other terms give a reason for one."""
        politeness, terms = self._politeness, self._terms
        if not terms:
            self._rest("")
            return None
        seen = await asyncio.to_thread(self._look, terms)
        self._tell_unknown(seen.unknown(terms))
        self._rest(politeness.reason_to_pause(seen, now=asyncio.get_running_loop().time()))
        return self._look_interval_s

    def _tell_unknown(self, keys: list[str]) -> None:
        if keys != self._told_unknown:
            self._told_unknown = keys
            if keys:
                logger.warning(
                    "this computer does not tell enough for %s: it does not count", ", ".join(keys)
                )
