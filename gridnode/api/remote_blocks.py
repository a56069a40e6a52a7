"""Blocks of a model that run in the swarm, as a module of torch."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import nn

from gridnode.api.cache_rows import CacheRows, to_values, valid_ranges
from gridnode.api.inference_session import InferenceSession
from gridnode.api.remote_model import RemoteModel
from gridnode.api.whole_rows import backward_rows, check_trainable, forward_rows
from gridnode.core.route_wishes import ANYWHERE, RouteWishes
from gridnode.core.routing import Aim
from gridnode.core.spans import Span
from gridnode.engine.tuned_tensors import Added, block_of_tuned
from gridnode.errors import BadInput
from gridnode.node.block_call import BlockCall


class BlockTuning(Protocol):
    """Something that adds tensors to blocks: prompts, LoRA matrices."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return them by name, see `gridnode.engine.tuned_tensors`; gradients reach them."""
        ...


class RemoteBlocks(nn.Module):
    """Consecutive blocks in the swarm: hidden states in, hidden states out. Slices are blocks too.

    Takes the place of the layers of a `transformers` model. With a cache every row of a batch is a session
    of its own, without its padding, so that rows may differ in length, be reordered by a beam search, and
    fork. The weights are frozen; gradients reach the hidden states, and what is added to the blocks, where
    no cache is used.
    """

    def __init__(self, remote: RemoteModel, span: Span) -> None:
        super().__init__()
        self.remote = remote
        self.span = span
        self.routing = ANYWHERE
        """Which nodes may compute."""

        self.adapter = ""
        """The adapter that the nodes add; see `use_adapter`."""

        self.tunings: list[BlockTuning] = []
        """What else is added to the blocks."""

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
        part = RemoteBlocks(self.remote, Span(first, first + len(chosen)))
        part.routing, part.adapter, part.tunings = self.routing, self.adapter, self.tunings
        return part

    def through(self, **wishes: Any) -> RemoteBlocks:
        """Return the same blocks, computed by the nodes that `wishes` name; see `RouteWishes`.

        `blocks[:4].through(route=["Ada"])` and `blocks[4:].through(block=["Bo"])` are a path of one's own.

        Raises:
            BadInput: the wishes are none.
        """
        part = self[:]
        part.routing = route_wishes(wishes)
        return part

    def use_adapter(self, name: str) -> None:
        """Let only nodes compute that host the LoRA adapter `name`, with it; empty is without again.

        Raises:
            ModelUnknown: nobody hosts it.
            BadInput: several adapters have this name.
        """
        models, model = self.remote.client.node.models, self.remote.model

        async def find() -> str:
            return models.view().adapter_id(model, name)

        self.adapter = self.remote.client.call(find()) if name else ""

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
            BadInput: gradients are asked for with a cache, or of rows that are too long for a message; or
                padding stands between tokens.
            GridError: the swarm cannot compute it.
        """
        if past_key_values is None:
            return self._without_cache(hidden_states)
        if _is_trained(hidden_states, *self._tensors().values()):
            raise BadInput("gradients cannot go through a cache; give use_cache=False")
        rows = self._rows.get(past_key_values)
        if rows is None:
            rows = self._rows[past_key_values] = self._new_rows(None)
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
            self._rows[session] = self._new_rows(max_length)
        elif resume not in self._rows:
            raise BadInput("this session belongs to other blocks, or to a model that is closed")
        rows = self._rows[session]
        try:
            yield session
        finally:
            rows.rest()

    def call(self, tensors: dict[str, torch.Tensor], aim: Aim) -> BlockCall:
        """Return what the swarm is asked with."""
        added = Added(
            tensors={name: to_values(tensor) for name, tensor in tensors.items()}, adapter=self.adapter
        )
        return self.remote.call(self.span, wishes=self.routing, aim=aim, added=added)

    def _new_rows(self, max_length: int | None) -> CacheRows:
        return CacheRows(self.remote, self.call(self._tensors(), Aim.LATENCY), max_length)

    def _twin(self, session: InferenceSession) -> InferenceSession:
        twin = InferenceSession(self.__call__, self._twin)
        self._rows[twin] = self._rows[session].fork()
        return twin

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Return what is added to these blocks."""
        return {
            name: tensor
            for tuning in self.tunings
            for name, tensor in tuning.tensors().items()
            if self.span.start <= block_of_tuned(name) < self.span.end
        }

    def _without_cache(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.between is None:
            tensors = self._tensors()
            call = self.call(tensors, Aim.THROUGHPUT)
            valid = valid_ranges(self.attention_mask, *hidden_states.shape[:2])
            if _is_trained(hidden_states, *tensors.values()):
                check_trainable(call, hidden_states.shape[-1], valid)
            result: torch.Tensor = _Remote.apply(  # type: ignore[no-untyped-call]
                hidden_states, self.remote, call, valid, *tensors.values()
            )
            return result
        for block in self:
            self.between.append(hidden_states)
            block.attention_mask = self.attention_mask
            hidden_states = block(hidden_states)
        return hidden_states


class _Remote(torch.autograd.Function):
    """The blocks as a function of torch, of the hidden states and of what is added to the blocks."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_states: torch.Tensor,
        remote: RemoteModel,
        call: BlockCall,
        valid: list[range],
        *tensors: torch.Tensor,
    ) -> torch.Tensor:
        """Take `tensors`, too, those of `call`, so that torch knows of them."""
        ctx.save_for_backward(hidden_states)
        ctx.remote, ctx.call, ctx.valid = remote, call, valid
        return _like(hidden_states, forward_rows(remote, call, to_values(hidden_states), valid))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        [hidden_states], [gradient] = ctx.saved_tensors, gradients
        of_hidden, of_added = backward_rows(
            ctx.remote, ctx.call, to_values(hidden_states), to_values(gradient), ctx.valid
        )
        added = [torch.from_numpy(of_added[name]) for name in ctx.call.added.tensors]
        return _like(hidden_states, of_hidden), None, None, None, *added


def route_wishes(wishes: Any) -> RouteWishes:
    """Return wishes of the route from a mapping, or as they are.

    Raises:
        BadInput: there are no such wishes, or they contradict each other.
    """
    if isinstance(wishes, RouteWishes):
        return wishes
    try:
        named: dict[str, Any] = {
            name: (value,) if isinstance(value, str) else value if isinstance(value, bool) else tuple(value)
            for name, value in wishes.items()
        }
        return replace(ANYWHERE, **named)
    except (TypeError, ValueError) as exc:
        raise BadInput(f"the routing cannot be used: {exc}") from exc


def _is_trained(*tensors: torch.Tensor) -> bool:
    """Return whether gradients may be asked for of what is computed from `tensors` now."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _like(tensor: torch.Tensor, values: Any) -> torch.Tensor:
    return torch.from_numpy(values).to(dtype=tensor.dtype, device=tensor.device)
