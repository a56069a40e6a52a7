"""A session over token ids that outlives its hops: what the caches held is run again on another route."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import numpy as np

from gridnode.errors import GridError, PeerLost, PeerRefused
from gridnode.node.remote_session import RemoteSession, StepOutcome
from gridnode.node.session_opener import SessionOpener, is_survivable
from gridnode.wire.messages import Output, StepKind
from gridnode.wire.tensors import TensorHeader

logger = logging.getLogger("gridnode.node.sessions")

# How long an answer waits for somebody to serve the blocks of a lost hop.
FAILOVER_DEADLINE_S = 60.0
# The tokens that a repetition penalty looks at travel with a step; more than these are cut off.
MAX_HISTORY_TOKENS = 4096
# Steps of a prompt under way at once: enough to keep a dozen hops busy, few enough to cancel quickly.
MAX_CHUNKS_UNDER_WAY = 16


class LastingSession:
    """Runs growing sequences of tokens through the swarm, whatever happens to the hops.

    Positions, not hops, decide sampled tokens, so that an answer goes on with the same tokens after a
    failover. Replaying the token ids costs one prefill of what the session held.

    Args:
        chunk_tokens: Tokens of a prompt in one step.
        sends_history: Whether the last hop's sampling looks at earlier tokens.
    """

    def __init__(self, opener: SessionOpener, *, chunk_tokens: int, sends_history: bool) -> None:
        self.num_reroutes = 0
        self._opener = opener
        self._chunk_tokens = chunk_tokens
        self._sends_history = sends_history
        self._session: RemoteSession | None = None
        self._num_cached = 0
        """Tokens that the caches of the present session hold."""

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

    async def advance(self, token_ids: Sequence[int], output: Output) -> StepOutcome:
        """Run what `token_ids` has beyond the caches and return the answer for its last token.

        Raises:
            NoCapacity: a hop was lost, and nobody served its blocks before the deadline.
            PeerRefused, PeerLost: a hop failed in a way that no other could mend.
        """
        deadline: float | None = None
        while True:
            try:
                if self._session is None:
                    self._session = await self._opener.open(deadline=deadline)
                outcome = await self._run(token_ids, output)
            except (PeerRefused, PeerLost) as exc:
                now = asyncio.get_running_loop().time()
                deadline = deadline or now + FAILOVER_DEADLINE_S
                if not is_survivable(exc) or now >= deadline:
                    raise
                await self._lose_session(exc)
            else:
                self._num_cached = len(token_ids)
                return outcome

    async def aclose(self) -> None:
        """Free the lease on every hop at once. Safe to call more than once."""
        if self._session is not None:
            await self._session.aclose()

    async def _lose_session(self, error: GridError) -> None:
        logger.info("%s; replaying %d tokens on another route", error, self._num_cached)
        self._opener.note_failure(error)
        self.num_reroutes += 1
        self._num_cached = 0
        lost, self._session = self._session, None
        if lost is not None:
            await lost.aclose()

    async def _run(self, token_ids: Sequence[int], output: Output) -> StepOutcome:
        """Run the tokens that are not cached, in chunks that follow each other through the hops."""
        session, first, size = self.session, self._num_cached, self._chunk_tokens
        kind = StepKind.DECODE if first else StepKind.PREFILL
        starts = range(first, len(token_ids), size)
        limit = asyncio.Semaphore(MAX_CHUNKS_UNDER_WAY)

        async def run_chunk(start: int) -> StepOutcome:
            is_last = start == starts[-1]
            chunk = token_ids[start : start + size]
            history = tuple(token_ids[-MAX_HISTORY_TOKENS:]) if is_last and self._sends_history else ()
            async with limit:
                return await session.step(
                    np.asarray(chunk, dtype="<i4").tobytes(),
                    TensorHeader("int32", (1, len(chunk))),
                    position=start,
                    kind=kind,
                    output=output if is_last else "none",
                    history=history,
                )

        # They start in order, and so do their steps. One that fails has failed the session.
        return (await asyncio.gather(*map(run_chunk, starts)))[-1]
