"""The sessions behind one cache of `transformers`: one for each row and each part of the blocks."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gridnode.api.client_node import ClientNode
from gridnode.api.remote_model import RemoteModel
from gridnode.core.spans import Span
from gridnode.engine.executor import Array
from gridnode.errors import BadInput
from gridnode.node.block_call import BlockCall
from gridnode.node.hidden_session import HiddenSession


class CacheRows:
    """The sessions behind one cache.

    The cache itself holds, as the keys of its only layer, the number of the row that computed each
    position, `[batch, 1, positions, 1]`. When the library selects, repeats or cuts rows, it tells us so.

    Args:
        call: The blocks, and what to add to them.
        max_tokens: Positions to lease for each row; None lets them grow.
    """

    def __init__(self, remote: RemoteModel, call: BlockCall, max_tokens: int | None) -> None:
        self._remote = remote
        self._call = call
        self._max_tokens = max_tokens
        self._parts: tuple[Span, ...] = ()
        """Chosen by the first step: all blocks at once, or each alone if what is between them is wanted."""

        self._sessions: dict[int, tuple[HiddenSession, ...]] = {}
        """By number of the row; one for each part."""

        self._padding: dict[int, int] = {}
        """Positions of padding before the first token of each row."""

        self._next_number = 1
        weakref.finalize(self, _close_all, remote.client, self._sessions)

    def step(
        self,
        hidden_states: torch.Tensor,
        cache: Any,
        attention_mask: torch.Tensor | None,
        between: list[torch.Tensor] | None,
    ) -> torch.Tensor:
        """Return the hidden states behind the blocks; put what goes into each block into `between`."""
        batch, num_new = hidden_states.shape[:2]
        num_past = cache.get_seq_length(0)
        valid = valid_ranges(attention_mask, batch, num_new)
        self._choose_parts(is_each_wanted=between is not None)
        numbers = self._continue(cache, batch) if num_past else self._begin(attention_mask, batch)
        for number in numbers:
            position = max(num_past - self._padding[number], 0)
            for session in self._sessions[number]:
                if position < session.position:
                    session.roll_back(position)
        for i in range(len(self._parts)):
            if between is not None:
                between.append(hidden_states)
            sessions = [self._sessions[number][i] for number in numbers]
            hidden_states = step_rows(self._remote.client, sessions, hidden_states, valid)
        marks = torch.tensor(numbers, dtype=torch.float32).view(batch, 1, 1, 1).expand(batch, 1, num_new, 1)
        cache.update(marks, marks, 0)
        return hidden_states

    def fork(self) -> CacheRows:
        """Return rows that go on from the same tokens; their leases begin when they are used."""
        twin = CacheRows(self._remote, self._call, self._max_tokens)
        twin._parts = self._parts
        twin._padding = dict(self._padding)
        twin._next_number = self._next_number
        for number, sessions in self._sessions.items():
            twin._sessions[number] = tuple(session.fork() for session in sessions)
        return twin

    def rest(self) -> None:
        """Free the leases; a later step opens them again and sends what they held."""
        _close_all(self._remote.client, self._sessions)

    def _choose_parts(self, *, is_each_wanted: bool) -> None:
        if not self._parts:
            whole = self._call.part
            each = tuple(Span(block_index, block_index + 1) for block_index in whole)
            self._parts = each if is_each_wanted else (whole,)
        elif is_each_wanted and len(self._parts) < len(self._call.part):
            raise BadInput(
                "this cache was begun without hidden states; give output_hidden_states from the first call on"
            )

    def _begin(self, attention_mask: torch.Tensor | None, batch: int) -> list[int]:
        numbers = []
        for row in range(batch):
            padding = 0 if attention_mask is None else int((attention_mask[row].cumsum(0) == 0).sum())
            call = replace(self._call, added=self._call.added.for_rows([row]))
            sessions = tuple(
                self._remote.session(call.of(part), max_tokens=self._max_tokens) for part in self._parts
            )
            numbers.append(self._add(sessions, padding))
        self._keep(numbers)
        return numbers

    def _continue(self, cache: Any, batch: int) -> list[int]:
        """Return the number of each row: the one that it goes on from, or a fork if another row took it."""
        numbers: list[int] = []
        for number in cache.layers[0].keys[:, 0, -1, 0].int().tolist():
            if number in numbers:
                forks = tuple(session.fork() for session in self._sessions[number])
                number = self._add(forks, self._padding[number])
            numbers.append(number)
        if len(numbers) != batch:
            raise BadInput(f"the cache has {len(numbers)} rows, {batch} came")
        self._keep(numbers)
        return numbers

    def _add(self, sessions: tuple[HiddenSession, ...], padding: int) -> int:
        number = self._next_number
        self._next_number += 1
        self._sessions[number] = sessions
        self._padding[number] = padding
        return number

    def _keep(self, numbers: Sequence[int]) -> None:
        """End the sessions that no row goes on with."""
        for number in set(self._sessions) - set(numbers):
            close_sessions(self._remote.client, self._sessions.pop(number))


def valid_ranges(attention_mask: torch.Tensor | None, batch: int, num_new: int) -> list[range]:
    """Return which of the new positions of each row are tokens.

    Raises:
        BadInput: padding stands between tokens.
    """
    if attention_mask is None:
        return [range(num_new)] * batch
    found = []
    for row in attention_mask[:, -num_new:].bool():
        positions = row.nonzero().flatten().tolist()
        if positions and positions[-1] - positions[0] + 1 != len(positions):
            raise BadInput("padding stands between tokens; put it before or behind them")
        found.append(range(positions[0], positions[-1] + 1) if positions else range(0))
    return found


def step_rows(
    client: ClientNode,
    sessions: Sequence[HiddenSession | None],
    hidden_states: torch.Tensor,
    valid: Sequence[range],
) -> torch.Tensor:
    """Run the tokens of every row through its session, all rows at once; padding stays as it came."""
    values = to_values(hidden_states)
    result = values.copy()

    async def step(row: int, session: HiddenSession) -> None:
        tokens = slice(valid[row].start, valid[row].stop)
        result[row, tokens] = (await session.step(np.ascontiguousarray(values[row : row + 1, tokens])))[0]

    all_at_once(
        client,
        (
            step(row, session)
            for row, session in enumerate(sessions)
            if session is not None and len(valid[row])
        ),
    )
    return torch.from_numpy(result).to(dtype=hidden_states.dtype, device=hidden_states.device)


def to_values(tensor: torch.Tensor) -> Array:
    """Return what goes over the wire: float32, here."""
    values: Array = tensor.detach().float().cpu().numpy()
    return values


def all_at_once(client: ClientNode, work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait until all work is done; the first error ends it."""

    async def run_all() -> None:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)

    try:
        client.call(run_all())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def close_sessions(client: ClientNode, sessions: Iterable[HiddenSession | None]) -> None:
    """Free the leases of `sessions`, without waiting for it."""
    for session in sessions:
        if session is not None:
            client.begin(session.aclose())


def _close_all(client: ClientNode, sessions: dict[int, tuple[HiddenSession, ...]]) -> None:
    for parts in list(sessions.values()):
        close_sessions(client, parts)
