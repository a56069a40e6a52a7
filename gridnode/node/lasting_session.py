"""A session over token ids that outlives its hops: what the caches held is run again on another route."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gridnode.core.draft_length import MAX_DRAFT_TOKENS
from gridnode.core.prefill import suitable_chunk_tokens
from gridnode.core.sampling import PENALTY_WINDOW_TOKENS
from gridnode.errors import GridError, NoCapacity, PeerLost, PeerRefused
from gridnode.node.remote_session import RemoteSession, StepOutcome
from gridnode.node.session_opener import SessionOpener, is_survivable
from gridnode.wire.messages import Output, StepKind
from gridnode.wire.tensors import TensorHeader

logger = logging.getLogger("gridnode.node.sessions")

# How long an answer waits for somebody to serve the blocks of a lost hop.
FAILOVER_DEADLINE_S = 60.0
# The tokens that repetition penalties look at travel with a step: those before each of its draft tokens.
SENT_HISTORY_TOKENS = PENALTY_WINDOW_TOKENS + MAX_DRAFT_TOKENS
# Steps of a prompt or a replay under way at once: enough for a dozen hops, few enough to cancel quickly.
MAX_STEPS_UNDER_WAY = 16
# A hop that drains waits for us; there may be no other yet.
MOVE_INTERVAL_S = 1.0
# Comparing routes takes tenths of a second of a large swarm.
COMPARE_INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """Nobody has the blocks of a lost hop now. The next call of `advance` waits for somebody."""

    text: str
    """What is missing, for people."""


class LastingSession:
    """Runs growing sequences of tokens through the swarm, whatever happens to the hops.

    Positions, not hops, decide sampled tokens, so that an answer goes on with the same tokens after a
    failover. The steps of a replay follow each other through the hops without waiting for answers, so that
    it takes the time of its slowest hop.

    Args:
        chunk_tokens: Tokens of a prompt or a replay in one step; None suits the prompt and its first route.
        sends_history: Whether the last hop's sampling looks at earlier tokens.
        patience_s: How long to wait for somebody to serve the blocks of a lost hop.
    """

    def __init__(
        self,
        opener: SessionOpener,
        *,
        chunk_tokens: int | None,
        sends_history: bool,
        patience_s: float = FAILOVER_DEADLINE_S,
    ) -> None:
        self.num_reroutes = 0
        self._next_move_at = 0.0
        self._next_comparison_at = 0.0
        self._patience_s = patience_s
        self._deadline: float | None = None
        """Until when to go on without a route, on the loop's clock; None while there is one."""

        self._is_interrupted = False
        self._opener = opener
        self._chunk_tokens = chunk_tokens
        self._sends_history = sends_history
        self._session: RemoteSession | None = None
        self._num_cached = 0
        """Tokens that the caches of the present session hold, draft tokens included."""

        self._num_prompt: int | None = None
        """Tokens of the first call of `advance`."""

    @property
    def session(self) -> RemoteSession:
        """The present session; there is one after `open`."""
        assert self._session is not None
        return self._session

    async def open(self) -> None:
        """Open the first session.

        Raises:
            NoCapacity, PeerRefused, PeerLost: as `SessionOpener.open`.
        """
        self._session = await self._opener.open()

    async def advance(
        self, token_ids: Sequence[int], output: Output, *, drafts: Sequence[int] = ()
    ) -> StepOutcome | Interruption:
        """Run what `token_ids` has beyond the caches and return the answer for its last token.

        Args:
            token_ids: Those of the last call, and at least one more; at first the prompt.
            output: `tokens` and `all_logits` answer for the last token and each of `drafts`.
            drafts: Tokens that may follow, run in the same step. What of them is not in `token_ids` the
                next time is rolled back.

        Returns:
            What the last hop answered; or once, before it waits, why it has to.

        Raises:
            NoCapacity: a hop was lost, and nobody served its blocks before the deadline.
            PeerRefused, PeerLost: a hop failed in a way that no other could mend.
        """
        while True:
            try:
                if self._session is None:
                    interruption = await self._reopen()
                    if interruption is not None:
                        return interruption
                await self._move_if_better()
                outcome = await self._run(token_ids, output, drafts)
            except (PeerRefused, PeerLost) as exc:
                now = asyncio.get_running_loop().time()
                self._deadline = self._deadline or now + self._patience_s
                if not is_survivable(exc) or now >= self._deadline:
                    raise
                await self._lose_session(exc)
            else:
                self._num_cached = len(token_ids) + len(drafts)
                self._deadline = None
                self._is_interrupted = False
                return outcome

    async def aclose(self) -> None:
        """Free the lease on every hop at once. Safe to call more than once."""
        if self._session is not None:
            await self._session.aclose()

    async def _reopen(self) -> Interruption | None:
        """Open a session instead of a lost one; the second time wait for what it needs."""
        if self._is_interrupted:
            self._session = await self._opener.open(deadline=self._deadline)
            return None
        try:
            self._session = await self._opener.open()
        except (NoCapacity, PeerRefused, PeerLost) as exc:
            if not isinstance(exc, NoCapacity) and not is_survivable(exc):
                raise
            self._is_interrupted = True
            return Interruption(text=str(exc))
        return None

    async def _move_if_better(self) -> None:
        """Take another route if a hop drains, or is much slower than another one. Without one, stay."""
        now = asyncio.get_running_loop().time()
        if now < self._next_move_at:
            return
        self._next_move_at = now + MOVE_INTERVAL_S
        route = self.session.plan.route
        if self._opener.is_ending(route):
            reason = "a hop is leaving"
        elif now >= self._next_comparison_at:
            self._next_comparison_at = now + COMPARE_INTERVAL_S
            reason = self._opener.slowness(route)
        else:
            return
        if not reason:
            return
        try:
            moved = await self._opener.open()
        except (NoCapacity, PeerRefused, PeerLost) as exc:
            logger.info("%s, and there is no other route yet: %s", reason, exc)
            return
        logger.info("%s; moving %d tokens to %s", reason, self._num_cached, moved.plan.route)
        left, self._session = self.session, moved
        self.num_reroutes += 1
        self._num_cached = 0
        await left.aclose()

    async def _lose_session(self, error: GridError) -> None:
        logger.info("%s; replaying %d tokens on another route", error, self._num_cached)
        self._opener.note_failure(error)
        self.num_reroutes += 1
        self._num_cached = 0
        lost, self._session = self._session, None
        if lost is not None:
            await lost.aclose()

    async def _run(self, token_ids: Sequence[int], output: Output, drafts: Sequence[int]) -> StepOutcome:
        """Run the tokens that are not cached, in steps that follow each other through the hops."""
        session = self.session
        num_prompt = self._num_prompt = self._num_prompt or len(token_ids)
        if self._chunk_tokens is None:
            self._chunk_tokens = suitable_chunk_tokens(num_prompt, len(session.plan.route.hops))
        # The last token was never run. Drafts before it were taken; what the caches hold behind was not.
        first = min(self._num_cached, len(token_ids) - 1)
        cuts = step_cuts(first, len(token_ids), self._chunk_tokens, num_drafts=len(drafts))
        tokens = np.array([*token_ids[first:], *drafts], dtype="<i4")
        limit = asyncio.Semaphore(MAX_STEPS_UNDER_WAY)

        async def run_step(start: int, end: int) -> StepOutcome:
            is_last = end == cuts[-1]
            history = (*token_ids, *drafts)[-SENT_HISTORY_TOKENS:] if is_last and self._sends_history else ()
            async with limit:
                return await session.step(
                    tokens[start - first : end - first].tobytes(),
                    TensorHeader("int32", (1, end - start)),
                    position=start,
                    kind=StepKind.DECODE if is_last and start >= num_prompt else StepKind.PREFILL,
                    output=output if is_last else "none",
                    history=history,
                )

        # They start in order, and so do their steps. One that fails has failed the session.
        return (await asyncio.gather(*(run_step(start, end) for start, end in pairwise(cuts))))[-1]


def step_cuts(first: int, end: int, chunk_tokens: int, *, num_drafts: int) -> list[int]:
    """Return where steps begin from `first` on, and where the last one ends, `num_drafts` behind `end`.

    Drafts are verified in a step of their own, with the one token before them.
    """
    last = end - 1 if num_drafts else end
    return [*range(first, last, chunk_tokens), *([last] if num_drafts else []), end + num_drafts]
