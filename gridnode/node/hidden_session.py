"""A session over hidden states through some blocks, which outlives its hops and grows as it needs."""

from __future__ import annotations

import asyncio
import logging

import numpy as np

from gridnode.engine.arrays import to_array, to_parts
from gridnode.engine.executor import Array
from gridnode.errors import BadInput, ContextFull, GridError
from gridnode.node.block_call import BlockCall
from gridnode.node.lasting_session import FAILOVER_DEADLINE_S
from gridnode.node.model_access import ModelAccess
from gridnode.node.remote_session import RemoteSession
from gridnode.node.session_opener import SessionOpener, is_survivable
from gridnode.wire.messages import MAX_SESSION_TOKENS, Output, StepKind

logger = logging.getLogger("gridnode.node.sessions")

# Hidden states of one step: 256 tokens of the widest model are 16 MiB, the longest frame.
CHUNK_TOKENS = 256
# A session that nobody gave a length begins with this, and grows by opening a longer one and replaying.
FIRST_LEASE_TOKENS = 256


class HiddenSession:
    """Runs hidden states through some blocks of a model.

    What was sent is kept here: when a hop is lost, or the lease becomes too short, it is sent again on
    another session. One step at a time.

    Args:
        max_tokens: Positions at most; the lease has them from the beginning. None grows as needed.
    """

    def __init__(self, models: ModelAccess, call: BlockCall, *, max_tokens: int | None = None) -> None:
        self._models = models
        self._call = call
        self._max_tokens = max_tokens
        self._lease_tokens = max_tokens or FIRST_LEASE_TOKENS
        self._opener = self._new_opener()
        self._session: RemoteSession | None = None
        self._sent: list[Array] = []
        """What the caches hold, `[batch, tokens, hidden_size]` a step."""

        self._num_cached = 0
        """Steps of `_sent` that the present session holds."""

    @property
    def position(self) -> int:
        """Tokens that the caches hold."""
        return sum(hidden.shape[1] for hidden in self._sent)

    def fork(self) -> HiddenSession:
        """Return a session that goes on from the same tokens; its caches fill when it is used."""
        twin = HiddenSession(self._models, self._call, max_tokens=self._max_tokens)
        twin._sent = list(self._sent)
        return twin

    def roll_back(self, position: int) -> None:
        """Forget the tokens from `position` on.

        Raises:
            BadInput: there are not so many.
        """
        if not 0 <= position <= self.position:
            raise BadInput(f"cannot go back to position {position}: the session has {self.position} tokens")
        kept, end = [], 0
        for hidden in self._sent:
            take = min(hidden.shape[1], position - end)
            if take <= 0:
                break
            kept.append(hidden[:, :take])
            end += take
        self._sent = kept
        # A lower position than reached rolls the caches of the hops back; what is kept is still there.
        self._num_cached = min(self._num_cached, len(kept))

    async def step(self, hidden: Array) -> Array:
        """Run new tokens through the blocks and return their hidden states, of the same shape.

        Args:
            hidden: `[batch, tokens, hidden_size]`, float32; no tokens at all are fine.

        Raises:
            ContextFull: the session is as long as it may be.
            NoCapacity: there is no route, or none with room, until the deadline of a failover.
            PeerRefused, PeerLost: a hop failed in a way that no other could mend; the leases are free then,
                and a later step opens them again.
        """
        num_before = len(self._sent)
        self._reserve(self.position + hidden.shape[1])
        self._sent += [
            hidden[:, start : start + CHUNK_TOKENS] for start in range(0, hidden.shape[1], CHUNK_TOKENS)
        ]
        if len(self._sent) == num_before:
            return hidden
        try:
            return await self._run_lasting(num_before)
        except BaseException:
            # The caller knows nothing of tokens whose states it never got.
            del self._sent[num_before:]
            self._num_cached = min(self._num_cached, num_before)
            raise

    async def _run_lasting(self, num_before: int) -> Array:
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        while True:
            if self._session is None and self._models.is_loading(self._call):
                deadline = deadline or loop.time() + FAILOVER_DEADLINE_S
            try:
                return await self._run(num_before, deadline)
            except GridError as exc:
                # A session with a hop that failed is over, and only repeats the error.
                await self.aclose()
                now = loop.time()
                deadline = deadline or now + FAILOVER_DEADLINE_S
                if not is_survivable(exc) or now >= deadline:
                    raise
                logger.info("%s; sending %d tokens again on another route", exc, self.position)
                self._opener.note_failure(exc)

    async def aclose(self) -> None:
        """Free the lease on every hop at once. Safe to call more than once; a later step opens it again."""
        session, self._session = self._session, None
        self._num_cached = 0
        if session is not None:
            await session.aclose()

    def _reserve(self, num_tokens: int) -> None:
        if num_tokens > self._lease_tokens:
            limit = self._max_tokens or self._models.context_tokens(
                self._call.model, self._call.num_blocks, self._call.part, wishes=self._call.wishes
            )
            if num_tokens > limit:
                raise ContextFull(num_tokens, limit)
            self._lease_tokens = min(max(2 * self._lease_tokens, num_tokens), limit, MAX_SESSION_TOKENS)
            self._opener = self._new_opener()

    def _new_opener(self) -> SessionOpener:
        return block_opener(self._models, self._call, max_tokens=self._lease_tokens)

    async def _run(self, num_before: int, deadline: float | None) -> Array:
        """Send the steps that the session lacks; return the output of those behind `num_before`."""
        session = await self._open(deadline)
        position = sum(hidden.shape[1] for hidden in self._sent[: self._num_cached])
        pending = []
        for i, hidden in enumerate(self._sent[self._num_cached :], self._num_cached):
            output: Output = "hidden" if i >= num_before else "none"
            pending.append(self._send(session, hidden, position, output))
            position += hidden.shape[1]
        results = await asyncio.gather(*pending)
        self._num_cached = len(self._sent)
        return np.concatenate([result for result in results if result is not None], axis=1)

    async def _open(self, deadline: float | None) -> RemoteSession:
        if self._session is not None and self._session.plan.max_tokens < self._lease_tokens:
            await self.aclose()
        if self._session is None:
            self._session = await self._opener.open(deadline=deadline)
        return self._session

    async def _send(
        self, session: RemoteSession, hidden: Array, position: int, output: Output
    ) -> Array | None:
        tensor, body = to_parts(np.ascontiguousarray(hidden, dtype=np.float32))
        outcome = await session.step(
            body,
            tensor,
            position=position,
            kind=StepKind.DECODE if hidden.shape[1] == 1 else StepKind.PREFILL,
            output=output,
        )
        if output == "none":
            return None
        return to_array(outcome.tensor, outcome.body).astype(np.float32)


def block_opener(models: ModelAccess, call: BlockCall, *, max_tokens: int) -> SessionOpener:
    """Return what opens sessions for `call`."""
    return models.opener(
        call.model,
        call.num_blocks,
        max_tokens=max_tokens,
        part=call.part,
        wishes=call.wishes,
        aim=call.aim,
        batch=call.batch,
        added=call.added,
    )
