"""Draft tokens of one answer: who proposes them, how many, and what became of them.

Tokens are chosen by the target model alone, from its own logits and the random numbers of their positions:
drafts are taken as far as they are what it chooses. So an answer is the same, token by token, with drafts and
without, greedy or sampled. For drafts that are certain of themselves this accepts as often as the rejection
rule of Leviathan et al. (arXiv:2211.17192) and Chen et al. (arXiv:2302.01318), and it needs no probabilities
of the draft at the last hop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from gridnode.core.draft_length import DraftLength
from gridnode.core.ngrams import NgramIndex


class Drafter(Protocol):
    """Proposes how one answer goes on."""

    async def prepare(self, token_ids: Sequence[int]) -> None:
        """Make ready for drafts behind the prompt `token_ids`, while the hops run it. Cancelling is safe."""
        ...

    async def propose(self, token_ids: Sequence[int], count: int) -> Sequence[int]:
        """Return up to `count` tokens that may follow.

        Each call brings the tokens of the last one, and more.
        """
        ...

    async def aclose(self) -> None:
        """Give back what it holds. Safe to call more than once."""
        ...


class NgramDrafter:
    """Proposes what followed the same tokens before."""

    def __init__(self) -> None:
        self._index = NgramIndex()

    async def prepare(self, token_ids: Sequence[int]) -> None:
        """Index the prompt."""
        self._index.propose(token_ids, 1)

    async def propose(self, token_ids: Sequence[int], count: int) -> Sequence[int]:
        """Return up to `count` tokens that may follow."""
        return self._index.propose(token_ids, count)

    async def aclose(self) -> None:
        """Do nothing: the index goes with the answer."""


class Drafting:
    """The drafts of one answer.

    Args:
        drafter: Who proposes; None leaves drafts off.
    """

    def __init__(self, drafter: Drafter | None) -> None:
        self._drafter = drafter
        self._length = DraftLength()
        self._draft_s = 0.0
        self._preparing: asyncio.Task[None] | None = None
        self.num_laps = 0
        """Decode steps, with drafts or without."""

        self.num_proposed = 0
        self.num_accepted = 0

    def begin(self, token_ids: Sequence[int]) -> None:
        """Let the drafter make ready for the prompt `token_ids`, while the hops run it."""
        if self._drafter is not None:
            # Awaited in `propose`, once it is done, and in `aclose`.
            self._preparing = asyncio.create_task(self._drafter.prepare(token_ids), name="drafter")

    async def propose(self, token_ids: Sequence[int], room: int) -> tuple[int, ...]:
        """Return the drafts of the next lap, at most `room`; none where they do not pay."""
        if self._drafter is None or room < 1:
            return ()
        if self._preparing is not None:
            if not self._preparing.done():
                return ()
            await self._preparing
            self._preparing = None
        count = min(self._length.next(), room)
        if not count:
            return ()
        clock = asyncio.get_running_loop().time
        began_at = clock()
        drafts = tuple(await self._drafter.propose(token_ids, count))
        self._draft_s = clock() - began_at
        return drafts

    def note(self, *, num_drafts: int, num_accepted: int, lap_s: float | None) -> None:
        """Learn from a lap.

        Args:
            lap_s: What it took; None if it tells nothing, because the route changed in it.
        """
        self.num_laps += 1
        self.num_proposed += num_drafts
        self.num_accepted += num_accepted
        if lap_s is not None:
            self._length.note(
                num_drafts=num_drafts, num_accepted=num_accepted, lap_s=lap_s, draft_s=self._draft_s
            )

    async def aclose(self) -> None:
        """Give back what the drafter holds. Safe to call more than once."""
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.gather(self._preparing, return_exceptions=True)
        if self._drafter is not None:
            await self._drafter.aclose()
