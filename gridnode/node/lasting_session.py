"""A session over token ids that outlives its hops: what the caches held is run again on another route."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
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


class LastingSession:
    """Runs growing sequences of tokens through the swarm, whatever happens to the hops.

    Positions, not hops, decide sampled tokens, so that an answer goes on with the same tokens after a
    failover. A replay cuts the tokens into the same steps as before: the prompt in chunks, every later token
    by itself. A step of one token is computed by other kernels than a longer one, and where activations are
    rounded to 8 bits the last bit of a sum may decide a token. The steps of a replay follow each other
    through the hops without waiting for answers, so that it takes the time of its slowest hop.

    Args:
        chunk_tokens: Tokens of a prompt in one step; None suits the prompt and its first route.
        sends_history: Whether the last hop's sampling looks at earlier tokens.
    """

    def __init__(self, opener: SessionOpener, *, chunk_tokens: int | None, sends_history: bool) -> None:
        self.num_reroutes = 0
        self._next_move_at = 0.0
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
    ) -> StepOutcome:
        """Run what `token_ids` has beyond the caches and return the answer for its last token.

        Args:
            token_ids: Those of the last call, and at least one more; at first the prompt.
            output: `tokens` and `all_logits` answer for the last token and each of `drafts`.
            drafts: Tokens that may follow, run in the same step. What of them is not in `token_ids` the
                next time is rolled back.

        Raises:
            NoCapacity: a hop was lost, and nobody served its blocks before the deadline.
            PeerRefused, PeerLost: a hop failed in a way that no other could mend.
        """
        deadline: float | None = None
        while True:
            try:
                if self._session is None:
                    self._session = await self._opener.open(deadline=deadline)
                await self._move_from_ending_hops()
                outcome = await self._run(token_ids, output, drafts)
            except (PeerRefused, PeerLost) as exc:
                now = asyncio.get_running_loop().time()
                deadline = deadline or now + FAILOVER_DEADLINE_S
                if not is_survivable(exc) or now >= deadline:
                    raise
                await self._lose_session(exc)
            else:
                self._num_cached = len(token_ids) + len(drafts)
                return outcome

    async def aclose(self) -> None:
        """Free the lease on every hop at once. Safe to call more than once."""
        if self._session is not None:
            await self._session.aclose()

    async def _move_from_ending_hops(self) -> None:
        """Take another route if a hop drains; without one, stay: it finishes what runs."""
        now = asyncio.get_running_loop().time()
        if now < self._next_move_at or not self._opener.is_ending(self.session.plan.route):
            return
        self._next_move_at = now + MOVE_INTERVAL_S
        try:
            moved = await self._opener.open()
        except (NoCapacity, PeerRefused, PeerLost) as exc:
            logger.info("a hop is leaving and there is no other route yet: %s", exc)
            return
        logger.info("a hop is leaving; moving %d tokens to another route", self._num_cached)
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
        if self._num_prompt is None:
            self._num_prompt = len(token_ids)
        if self._chunk_tokens is None:
            self._chunk_tokens = suitable_chunk_tokens(self._num_prompt, len(session.plan.route.hops))
        # The last token was never run. Drafts before it were taken; what the caches hold behind was not.
        first = min(self._num_cached, len(token_ids) - 1)
        cuts = step_cuts(first, len(token_ids), self._num_prompt, self._chunk_tokens)
        cuts[-1] += len(drafts)
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
                    kind=StepKind.PREFILL if start < (self._num_prompt or 0) else StepKind.DECODE,
                    output=output if is_last else "none",
                    history=history,
                )

        # They start in order, and so do their steps. One that fails has failed the session.
        return (await asyncio.gather(*(run_step(start, end) for start, end in pairwise(cuts))))[-1]


def step_cuts(first: int, end: int, num_prompt: int, chunk_tokens: int) -> list[int]:
    """Return where steps begin from `first` on, and `end`: the prompt in chunks, later tokens one by one."""
    in_prompt = range(first, min(num_prompt, end), chunk_tokens)
    return [*in_prompt, *range(max(first, num_prompt), end), end]
