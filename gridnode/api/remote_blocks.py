"""Blocks of a model that run in the swarm, as a module of torch."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gridnode.api.client_node import ClientNode
from gridnode.core.ids import ModelId
from gridnode.core.spans import Span
from gridnode.errors import BadInput
from gridnode.node.gradients import backward
from gridnode.node.hidden_session import HiddenSession


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """A model of the swarm, and the way to it."""

    client: ClientNode
    model: ModelId
    num_blocks: int

    def session(self, span: Span, *, max_tokens: int | None = None) -> HiddenSession:
        """Return a session through the blocks `span`; see `HiddenSession`."""
        models = self.client.node.models
        return HiddenSession(models, self.model, self.num_blocks, span, max_tokens=max_tokens)


class RemoteBlocks(nn.Module):
    """Consecutive blocks in the swarm: hidden states in, hidden states out. Slices are blocks too.

    Takes the place of the layers of a `transformers` model. Every row of a batch is a session of its own,
    without its padding, so that rows may differ in length, be reordered by a beam search, and fork.
    The weights are frozen; gradients reach the hidden states where no cache is used.
    """

    def __init__(self, remote: RemoteModel, span: Span) -> None:
        super().__init__()
        self.remote = remote
        self.span = span
        self.attention_mask: torch.Tensor | None = None
        """`[batch, positions]`, of the call that runs now: which positions are no padding."""

        self.max_tokens: int | None = None
        """Positions to lease for sessions of the caches that come; None lets them grow."""

        self._rows: weakref.WeakKeyDictionary[Any, _CacheRows] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self.span)

    def __iter__(self) -> Iterator[RemoteBlocks]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice) -> RemoteBlocks:
        """Return some of the blocks: `blocks[3]`, `blocks[3:7]`; counted from the first one here.

        Raises:
            IndexError: there are no such blocks.
        """
        chosen = range(*index.indices(len(self))) if isinstance(index, slice) else [range(len(self))[index]]
        if not chosen or (isinstance(chosen, range) and chosen.step != 1):
            raise IndexError(f"{index} are no consecutive blocks of {len(self)}")
        first = self.span.start + chosen[0]
        return RemoteBlocks(self.remote, Span(first, first + len(chosen)))

    def extra_repr(self) -> str:
        """Return what `repr` shows of it."""
        return f"{self.remote.model}, blocks {self.span}"

    def forward(self, hidden_states: torch.Tensor, past_key_values: Any = None, **_: object) -> torch.Tensor:
        """Return the hidden states behind the blocks, `[batch, tokens, hidden_size]`.

        Args:
            hidden_states: `[batch, tokens, hidden_size]`.
            past_key_values: A cache of `transformers` that remembers how long the rows are and where each
                came from; the keys and values themselves are in the swarm. None computes without cache.

        Raises:
            BadInput: gradients are asked for with a cache, or padding stands between tokens.
            GridError: the swarm cannot compute it.
        """
        if past_key_values is None:
            result: torch.Tensor = _Remote.apply(  # type: ignore[no-untyped-call]
                hidden_states, self, self.attention_mask
            )
            return result
        if torch.is_grad_enabled() and hidden_states.requires_grad:
            raise BadInput("gradients cannot go through a cache; give use_cache=False")
        rows = self._rows.get(past_key_values)
        if rows is None:
            rows = self._rows[past_key_values] = _CacheRows(self.remote, self.span, self.max_tokens)
        return rows.step(hidden_states, past_key_values, self.attention_mask)

    def gradient_of(
        self, hidden_states: torch.Tensor, gradient: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the gradient with respect to `hidden_states`; padding has none.

        Raises:
            NoCapacity: no nodes with these blocks compute gradients.
            GridError: the swarm cannot compute it.
        """
        remote, valid = self.remote, _valid_ranges(attention_mask, *hidden_states.shape[:2])
        values = hidden_states.detach().float().cpu().numpy()
        after = gradient.detach().float().cpu().numpy()
        result = np.zeros_like(values)

        async def row_gradient(row: int, tokens: slice) -> None:
            result[row : row + 1, tokens] = await backward(
                remote.client.node.models,
                remote.model,
                remote.num_blocks,
                self.span,
                values[row : row + 1, tokens],
                after[row : row + 1, tokens],
            )

        _all_rows(
            remote.client,
            (row_gradient(row, slice(t.start, t.stop)) for row, t in enumerate(valid) if len(t)),
        )
        return torch.from_numpy(result).to(dtype=hidden_states.dtype, device=hidden_states.device)

    def end(self, cache: Any) -> None:
        """Free what the rows of `cache` hold in the swarm; without this, that happens with the cache."""
        self._rows.pop(cache, None)

    def run_once(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Return the hidden states behind the blocks, without cache and without gradients."""
        valid = _valid_ranges(attention_mask, *hidden_states.shape[:2])
        sessions = [
            self.remote.session(self.span, max_tokens=len(tokens)) if len(tokens) else None
            for tokens in valid
        ]
        try:
            return _step_rows(self.remote.client, sessions, hidden_states, valid)
        finally:
            _close(self.remote.client, sessions)


class _Remote(torch.autograd.Function):
    """The blocks as a function of torch: their weights are frozen, gradients reach the hidden states."""

    @staticmethod
    def forward(
        ctx: Any, hidden_states: torch.Tensor, blocks: RemoteBlocks, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(hidden_states)
        ctx.blocks, ctx.attention_mask = blocks, attention_mask
        return blocks.run_once(hidden_states, attention_mask)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        [hidden_states], [gradient] = ctx.saved_tensors, gradients
        return ctx.blocks.gradient_of(hidden_states, gradient, ctx.attention_mask), None, None


class _CacheRows:
    """The sessions behind one cache of `transformers`.

    The cache itself holds, as the keys of its only layer, the number of the session that computed each
    position, `[batch, 1, positions, 1]`. When the library selects, repeats or cuts rows, it tells us so.
    """

    def __init__(self, remote: RemoteModel, span: Span, max_tokens: int | None) -> None:
        self._remote = remote
        self._span = span
        self._max_tokens = max_tokens
        self._sessions: dict[int, HiddenSession] = {}
        self._padding: dict[int, int] = {}
        """Positions of padding before the first token of each session."""

        self._next_number = 1
        weakref.finalize(self, _close_all, remote.client, self._sessions)

    def step(
        self, hidden_states: torch.Tensor, cache: Any, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        batch, num_new = hidden_states.shape[:2]
        num_past = cache.get_seq_length(0)
        valid = _valid_ranges(attention_mask, batch, num_new)
        numbers = self._continue(cache, batch) if num_past else self._begin(attention_mask, batch)
        sessions = [self._sessions[number] for number in numbers]
        for number, session in zip(numbers, sessions, strict=True):
            position = max(num_past - self._padding[number], 0)
            if position < session.position:
                session.roll_back(position)
        result = _step_rows(self._remote.client, sessions, hidden_states, valid)
        marks = torch.tensor(numbers, dtype=torch.float32).view(batch, 1, 1, 1).expand(batch, 1, num_new, 1)
        cache.update(marks, marks, 0)
        return result

    def _begin(self, attention_mask: torch.Tensor | None, batch: int) -> list[int]:
        numbers = []
        for row in range(batch):
            padding = 0 if attention_mask is None else int((attention_mask[row].cumsum(0) == 0).sum())
            numbers.append(self._add(self._remote.session(self._span, max_tokens=self._max_tokens), padding))
        self._keep(numbers)
        return numbers

    def _continue(self, cache: Any, batch: int) -> list[int]:
        """Return the session of each row: the one that it goes on from, or a fork if another row took it."""
        numbers: list[int] = []
        for number in cache.layers[0].keys[:, 0, -1, 0].int().tolist():
            if number in numbers:
                number = self._add(self._sessions[number].fork(), self._padding[number])
            numbers.append(number)
        if len(numbers) != batch:
            raise BadInput(f"the cache has {len(numbers)} rows, {batch} came")
        self._keep(numbers)
        return numbers

    def _add(self, session: HiddenSession, padding: int) -> int:
        number = self._next_number
        self._next_number += 1
        self._sessions[number] = session
        self._padding[number] = padding
        return number

    def _keep(self, numbers: Sequence[int]) -> None:
        """End the sessions that no row goes on with."""
        ended = [self._sessions.pop(number) for number in set(self._sessions) - set(numbers)]
        _close(self._remote.client, ended)


def _valid_ranges(attention_mask: torch.Tensor | None, batch: int, num_new: int) -> list[range]:
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


def _step_rows(
    client: ClientNode,
    sessions: Sequence[HiddenSession | None],
    hidden_states: torch.Tensor,
    valid: Sequence[range],
) -> torch.Tensor:
    """Run the tokens of every row through its session, all rows at once; padding stays as it came."""
    values = hidden_states.detach().float().cpu().numpy()
    result = values.copy()

    async def step(row: int, session: HiddenSession) -> None:
        tokens = slice(valid[row].start, valid[row].stop)
        result[row, tokens] = (await session.step(np.ascontiguousarray(values[row : row + 1, tokens])))[0]

    _all_rows(
        client,
        (
            step(row, session)
            for row, session in enumerate(sessions)
            if session is not None and len(valid[row])
        ),
    )
    return torch.from_numpy(result).to(dtype=hidden_states.dtype, device=hidden_states.device)


def _all_rows(client: ClientNode, rows: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait until the work of all rows is done; the first error ends it."""

    async def run_all() -> None:
        async with asyncio.TaskGroup() as group:
            for row in rows:
                group.create_task(row)

    try:
        client.call(run_all())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _close(client: ClientNode, sessions: Sequence[HiddenSession | None]) -> None:
    for session in sessions:
        if session is not None:
            client.begin(session.aclose())


def _close_all(client: ClientNode, sessions: dict[int, HiddenSession]) -> None:
    _close(client, list(sessions.values()))
