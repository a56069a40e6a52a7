"""Rows that go through blocks at once, without cache: forwards and gradients of training and scoring.

Rows of like length go together, each moved to position 0: what stands behind a row changes nothing in it,
since no token sees those behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np

from gridnode.api.cache_rows import all_at_once
from gridnode.api.remote_model import RemoteModel
from gridnode.engine.executor import Array
from gridnode.errors import BadInput
from gridnode.node.block_call import BlockCall
from gridnode.node.gradients import backward
from gridnode.units import MIB, format_bytes
from gridnode.wire.frames import MAX_BODY_BYTES
from gridnode.wire.messages import MAX_BATCH
from gridnode.wire.tuning import MAX_TUNING_BYTES

# Hidden states of one message, and their gradient beside them: together with what is added to the blocks
# they must fit into a frame.
MAX_BATCH_BYTES = 3 * MIB
# More tokens at once make no node faster, and lease cache that others could use.
MAX_BATCH_TOKENS = 1024
# Enough to keep several hops busy. Each waits at a node for its turn, where there is room for a few clients.
MAX_BATCHES_UNDER_WAY = 4
_FLOAT_BYTES = 4


def check_trainable(call: BlockCall, hidden_size: int, valid: Sequence[range]) -> None:
    """Check that the request for the gradient of every row will fit into a message, on whatever route.

    Raises:
        BadInput: one is too long; the text tells how long it may be.
    """
    added_bytes = sum(
        array.nbytes // (len(array) if array.ndim == 3 else 1) for array in call.added.tensors.values()
    )
    added_bytes = min(added_bytes, MAX_TUNING_BYTES)  # no hop takes more
    fitting = (MAX_BODY_BYTES - added_bytes) // (2 * hidden_size * _FLOAT_BYTES)
    longest = max(map(len, valid), default=0)
    if longest > fitting:
        raise BadInput(
            f"a gradient of {longest} tokens of width {hidden_size} is too much for one message: beside "
            f"{format_bytes(added_bytes)} that are added to the blocks, {fitting} tokens fit; cut the texts "
            "(gridnode tune --max-tokens), or use torch.no_grad() if no gradient is wanted"
        )


def forward_rows(remote: RemoteModel, call: BlockCall, hidden: Array, valid: Sequence[range]) -> Array:
    """Return the hidden states behind the blocks, `[batch, tokens, hidden_size]`; padding stays as it came.

    Raises:
        GridError: the swarm cannot compute it.
    """
    result = hidden.copy()

    async def run(rows: list[int]) -> None:
        given = _gathered(hidden, valid, rows)
        some = replace(call, batch=len(rows), added=call.added.for_rows(rows))
        session = remote.session(some, max_tokens=given.shape[1])
        async with contextlib.aclosing(session):
            _scatter(result, await session.step(given), valid, rows)

    _run_batches(remote, run, _batches(valid, hidden.shape[-1]))
    return result


def backward_rows(
    remote: RemoteModel, call: BlockCall, hidden: Array, gradient: Array, valid: Sequence[range]
) -> tuple[Array, dict[str, Array]]:
    """Return the gradients with respect to `hidden` and to what is added; padding has none.

    Raises:
        NoCapacity: no nodes with these blocks compute gradients.
        GridError: the swarm cannot compute it.
    """
    result = np.zeros_like(hidden)
    of_added = {name: np.zeros_like(array) for name, array in call.added.tensors.items()}

    async def run(rows: list[int]) -> None:
        some = replace(call, batch=len(rows), added=call.added.for_rows(rows))
        of_hidden, found = await backward(
            remote.client.node.models,
            some,
            _gathered(hidden, valid, rows),
            _gathered(gradient, valid, rows),
        )
        _scatter(result, of_hidden, valid, rows)
        for name, array in found.items():
            if array.ndim == 3:
                of_added[name][rows] += array
            else:
                of_added[name] += array

    _run_batches(remote, run, _batches(valid, hidden.shape[-1]))
    return result, of_added


def _run_batches(
    remote: RemoteModel, run: Callable[[list[int]], Awaitable[None]], batches: Sequence[list[int]]
) -> None:
    """Wait until every batch is done; the first error ends it."""
    under_way = asyncio.Semaphore(MAX_BATCHES_UNDER_WAY)

    async def run_in_turn(rows: list[int]) -> None:
        async with under_way:
            await run(rows)

    all_at_once(remote.client, map(run_in_turn, batches))


def _batches(valid: Sequence[range], hidden_size: int) -> list[list[int]]:
    """Return the numbers of the rows that go together; rows without tokens go nowhere."""
    batches: list[list[int]] = []
    for row in sorted(
        (row for row, tokens in enumerate(valid) if len(tokens)), key=lambda row: len(valid[row])
    ):
        together = [*batches[-1], row] if batches else [row]
        num_tokens = len(together) * len(valid[row])  # the last one is the longest
        fits = num_tokens <= MAX_BATCH_TOKENS and num_tokens * hidden_size * _FLOAT_BYTES <= MAX_BATCH_BYTES
        if batches and fits and len(together) <= MAX_BATCH:
            batches[-1] = together
        else:
            batches.append([row])
    return batches


def _gathered(values: Array, valid: Sequence[range], rows: Sequence[int]) -> Array:
    """Return the tokens of `rows` from position 0 on, with zeros behind the shorter ones."""
    gathered = np.zeros((len(rows), max(len(valid[row]) for row in rows), values.shape[-1]), np.float32)
    for i, row in enumerate(rows):
        gathered[i, : len(valid[row])] = values[row, valid[row].start : valid[row].stop]
    return gathered


def _scatter(target: Array, gathered: Array, valid: Sequence[range], rows: Sequence[int]) -> None:
    """Put the tokens of `rows` back where they came from."""
    for i, row in enumerate(rows):
        target[row, valid[row].start : valid[row].stop] = gathered[i, : len(valid[row])]
