"""One vector for a text: the mean of its hidden states, computed through the swarm."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from gridnode.core.sampling import FloatArray
from gridnode.engine.arrays import to_array
from gridnode.node.remote_session import RemoteSession
from gridnode.node.restarting import restarting
from gridnode.node.session_opener import SessionOpener
from gridnode.wire.messages import StepKind
from gridnode.wire.tensors import TensorHeader

# Hidden states come back for every token: 256 of the widest model are 16 MiB.
CHUNK_TOKENS = 256


async def embed_tokens(opener: SessionOpener, token_ids: Sequence[int]) -> FloatArray:
    """Return the vector of `token_ids`, `[hidden_size]`, of length 1. Starts again if a hop is lost.

    Raises:
        NoCapacity: there is no route, or none with room.
        PeerRefused, PeerLost: a hop failed in a way that no other could mend.
    """
    mean = await restarting(opener, lambda session: _mean_hidden(session, token_ids))
    result: FloatArray = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return result


async def _mean_hidden(session: RemoteSession, token_ids: Sequence[int]) -> FloatArray:
    async def run(start: int) -> FloatArray:
        chunk = np.asarray(token_ids[start : start + CHUNK_TOKENS], dtype="<i4")
        outcome = await session.step(
            chunk.tobytes(),
            TensorHeader("int32", (1, chunk.size)),
            position=start,
            kind=StepKind.PREFILL,
            output="normed",
        )
        total: FloatArray = to_array(outcome.tensor, outcome.body).astype(np.float64).sum(axis=(0, 1))
        return total

    # They start in order, and so do their steps, which follow each other through the hops.
    sums = await asyncio.gather(*(run(start) for start in range(0, len(token_ids), CHUNK_TOKENS)))
    result: FloatArray = np.sum(sums, axis=0) / len(token_ids)
    return result
