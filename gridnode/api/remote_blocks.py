"""Blocks of a model that run in the swarm, as a module of torch."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from gridnode.api.cache_rows import (
    CacheRows,
    RemoteModel,
    all_at_once,
    close_sessions,
    step_rows,
    to_values,
    valid_ranges,
)
from gridnode.api.inference_session import InferenceSession
from gridnode.core.spans import Span
from gridnode.errors import BadInput
from gridnode.node.gradients import backward

__all__ = ["RemoteBlocks", "RemoteModel"]


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

        self.between: list[torch.Tensor] | None = None
        """Takes what goes into each block, in the call that runs now; None if nobody wants it."""

        self._rows: weakref.WeakKeyDictionary[Any, CacheRows] = weakref.WeakKeyDictionary()

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
            return self._without_cache(hidden_states)
        if torch.is_grad_enabled() and hidden_states.requires_grad:
            raise BadInput("gradients cannot go through a cache; give use_cache=False")
        rows = self._rows.get(past_key_values)
        if rows is None:
            rows = self._rows[past_key_values] = CacheRows(self.remote, self.span, None)
        return rows.step(hidden_states, past_key_values, self.attention_mask, self.between)

    @contextmanager
    def inference_session(
        self, max_length: int | None = None, *, resume: InferenceSession | None = None
    ) -> Iterator[InferenceSession]:
        """Yield a session of these blocks; its leases are freed at the end.

        Args:
            max_length: Positions to lease for each row from the beginning; None lets them grow.
            resume: A session of these blocks to go on with, instead of a new one.

        Raises:
            BadInput: the session to resume is one of other blocks.
        """
        session = resume or InferenceSession(self.__call__, self._twin)
        if resume is None:
            self._rows[session] = CacheRows(self.remote, self.span, max_length)
        elif resume not in self._rows:
            raise BadInput("this session belongs to other blocks, or to a model that is closed")
        rows = self._rows[session]
        try:
            yield session
        finally:
            rows.rest()

    def _twin(self, session: InferenceSession) -> InferenceSession:
        twin = InferenceSession(self.__call__, self._twin)
        self._rows[twin] = self._rows[session].fork()
        return twin

    def _without_cache(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.between is None:
            result: torch.Tensor = _Remote.apply(  # type: ignore[no-untyped-call]
                hidden_states, self, self.attention_mask
            )
            return result
        for block in self:
            self.between.append(hidden_states)
            block.attention_mask = self.attention_mask
            hidden_states = block(hidden_states)
        return hidden_states

    def gradient_of(
        self, hidden_states: torch.Tensor, gradient: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the gradient with respect to `hidden_states`; padding has none.

        Raises:
            NoCapacity: no nodes with these blocks compute gradients.
            GridError: the swarm cannot compute it.
        """
        remote, valid = self.remote, valid_ranges(attention_mask, *hidden_states.shape[:2])
        values = to_values(hidden_states)
        after = to_values(gradient)
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

        all_at_once(
            remote.client,
            (row_gradient(row, slice(t.start, t.stop)) for row, t in enumerate(valid) if len(t)),
        )
        return torch.from_numpy(result).to(dtype=hidden_states.dtype, device=hidden_states.device)

    def run_once(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Return the hidden states behind the blocks, without cache and without gradients."""
        valid = valid_ranges(attention_mask, *hidden_states.shape[:2])
        sessions = [
            self.remote.session(self.span, max_tokens=len(tokens)) if len(tokens) else None
            for tokens in valid
        ]
        try:
            return step_rows(self.remote.client, sessions, hidden_states, valid)
        finally:
            close_sessions(self.remote.client, sessions)


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
