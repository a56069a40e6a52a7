"""Keys and values of one session for TorchSpan: allocated once, written in place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from gridnode.core.spans import Span
from gridnode.engine.torch_tuning import TorchTuning


class _BlockCache(CacheLayerMixin):
    """Keys and values of one block, `[batch, kv_heads, max_tokens, head_dim]`; allocated when first used."""

    is_sliding = False

    def __init__(self, owner: TorchCache) -> None:
        super().__init__()
        self._owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate; pages that no token reached yet take no memory."""
        batch, kv_heads, _, head_dim = key_states.shape
        max_tokens = self._owner.max_tokens
        self.keys = key_states.new_empty((batch, kv_heads, max_tokens, head_dim))
        self.values = value_states.new_empty((batch, kv_heads, max_tokens, value_states.shape[-1]))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new tokens at the session's position; return everything up to them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self._owner.position
        end = start + key_states.shape[-2]
        assert self.keys is not None
        assert self.values is not None
        self.keys[:, :, start:end] = key_states
        self.values[:, :, start:end] = value_states
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many keys a query sees, and where they begin."""
        return self._owner.position + query_length, 0

    def get_seq_length(self) -> int:
        """Return the tokens that count."""
        return self._owner.position

    @property
    def num_bytes(self) -> int:
        """Bytes allocated."""
        return sum(tensor.nbytes for tensor in (self.keys, self.values) if tensor is not None)

    def reorder(self, parents: Sequence[int]) -> None:
        """Let row i hold what row `parents[i]` holds."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys[list(parents)], self.values[list(parents)]

    def get_max_length(self) -> int:
        """Return the tokens that fit."""
        return self._owner.max_tokens


class TorchCache(Cache):
    """Keys and values of one session; a `gridnode.engine.executor.SpanCache`.

    Args:
        num_layers: Blocks of the model, which number the layers; those outside `span` stay empty.
        tuning: What to add to the blocks in this session.
    """

    def __init__(
        self,
        span: Span,
        *,
        num_layers: int,
        batch: int,
        max_tokens: int,
        tuning: TorchTuning | None = None,
    ) -> None:
        self.span = span
        self.batch = batch
        self.max_tokens = max_tokens
        self.tuning = tuning
        self.position = 0
        """Tokens that count; set before every step."""

        self._blocks = [_BlockCache(self) for _ in range(num_layers)]
        super().__init__(layers=list(self._blocks))

    @property
    def num_bytes(self) -> int:
        """Bytes of the keys and values that are allocated."""
        return sum(block.num_bytes for block in self._blocks)

    def reorder(self, parents: Sequence[int], num_tokens: int) -> None:
        """Let row i go on from the first `num_tokens` tokens of what row `parents[i]` holds (beam search)."""
        for block in self._blocks:
            block.reorder(parents)
