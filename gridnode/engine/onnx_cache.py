"""Keys and values of sessions for OnnxSpan, bound to the attentions that read and write them.

The attention operator wants the keys of a row in one piece, so that there is no table of pages: each row has
its own stretch of address space for all its tokens, and the system gives it a page of memory when a token
first reaches it. Closing a session gives them back at once.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from gridnode.core.spans import Span
from gridnode.engine.executor import Array

# The attention takes rows in tiles, whose size depends on the model and the processor. A tile of one row goes
# through another kernel, which sums in another order. Tiles are even: an even number of rows leaves none.
_ROWS_MULTIPLE = 2
MAX_PADDING_TOKENS = _ROWS_MULTIPLE - 1


class StackedRows:
    """Where some of the stacked tokens go into the attention, and come out of it.

    Made once for a part of a stack, so that a row notices when it is still bound to it.
    """

    def __init__(self, qkv: Array, attended: Array, start: int, end: int) -> None:
        self.num_tokens = end - start
        self.qkv = onnxruntime.OrtValue.ortvalue_from_numpy(qkv[:, start:end])
        self.attended = onnxruntime.OrtValue.ortvalue_from_numpy(attended[:, start:end])


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAttention:
    """The attention of one block."""

    graph: onnxruntime.InferenceSession
    scales: tuple[Array, Array] | None
    """Of int8 keys and values; None is float32."""


class RowCache:
    """Keys and values of one row in some blocks.

    Args:
        attentions: Of each block; all of them with int8 keys and values, or none.
        shape: `[1, kv_heads, positions, head_dim]` of keys, and of values, of one block.
    """

    def __init__(self, attentions: Sequence[BlockAttention], shape: tuple[int, int, int, int]) -> None:
        self._attentions = attentions
        dtype = np.dtype(np.float32 if attentions[0].scales is None else np.int8)
        self._stacked: StackedRows | None = None
        self._padding = np.zeros(6, dtype=np.int64)
        self._num_tokens = np.zeros(1, dtype=np.int64)
        self._seqlens = np.zeros(1, dtype=np.int32)
        self._total = np.zeros(1, dtype=np.int32)
        self._keys_and_values = _fresh_zeros((len(attentions), 2, *shape), dtype)
        self._bindings = [
            self._bind(attention, buffers)
            for attention, buffers in zip(attentions, self._keys_and_values, strict=True)
        ]

    def begin(self, stacked: StackedRows, position: int) -> None:
        """Let the next calls of `attend` take the tokens of `stacked`, which follow `position` others."""
        padding = -stacked.num_tokens % _ROWS_MULTIPLE
        self._padding[4] = padding  # behind the tokens; of `[1, tokens, width]`
        self._num_tokens[0] = stacked.num_tokens
        self._total[0] = position + stacked.num_tokens + padding
        self._seqlens[0] = self._total[0] - 1
        if self._stacked is not stacked:
            for binding in self._bindings:
                binding.bind_ortvalue_input("qkv", stacked.qkv)
                binding.bind_ortvalue_output("attended", stacked.attended)
            self._stacked = stacked

    def attend(self, index: int) -> None:
        """Compute the attention of the block with `index` in this row's span."""
        self._attentions[index].graph.run_with_iobinding(self._bindings[index])

    def copy_from(self, other: RowCache, num_tokens: int) -> None:
        """Take over the first `num_tokens` tokens of a row of the same session."""
        self._keys_and_values[..., :num_tokens, :] = other._keys_and_values[..., :num_tokens, :]

    def _bind(self, attention: BlockAttention, buffers: Array) -> onnxruntime.IOBinding:
        binding = attention.graph.io_binding()
        for name, buffer in zip(("key", "value"), buffers, strict=True):
            bound = onnxruntime.OrtValue.ortvalue_from_numpy(buffer)
            binding.bind_ortvalue_input(name, bound)
            binding.bind_ortvalue_output(f"new_{name}", bound)
        numbers = {
            "padding": self._padding,
            "num_tokens": self._num_tokens,
            "seqlens_k": self._seqlens,
            "total_tokens": self._total,
        }
        if attention.scales is not None:
            numbers |= dict(zip(("key_scale", "value_scale"), attention.scales, strict=True))
        for name, number in numbers.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(number))
        return binding


class OnnxCache:
    """Keys and values of one session: a `gridnode.engine.executor.SpanCache`."""

    def __init__(
        self,
        span: Span,
        attentions: Sequence[BlockAttention],
        *,
        batch: int,
        shape: tuple[int, int, int],
    ) -> None:
        kv_heads, max_tokens, head_dim = shape
        self.span = span
        self.batch = batch
        self.max_tokens = max_tokens
        row_shape = (1, kv_heads, max_tokens + MAX_PADDING_TOKENS, head_dim)
        self.rows = [RowCache(attentions, row_shape) for _ in range(batch)]

    def reorder(self, parents: Sequence[int], num_tokens: int) -> None:
        """Let row i go on from the first `num_tokens` tokens of what row `parents[i]` holds (beam search)."""
        spare = [row for index, row in enumerate(self.rows) if index not in parents]
        moved: set[int] = set()
        rows = []
        for parent in parents:
            row = self.rows[parent]
            if parent in moved:
                row = spare.pop()
                row.copy_from(self.rows[parent], num_tokens)
            moved.add(parent)
            rows.append(row)
        self.rows = rows


def _fresh_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros that take no memory before they are written, and none once nobody holds them."""
    num_bytes = math.prod(shape) * dtype.itemsize
    if sys.platform == "win32":
        memory = mmap.mmap(-1, num_bytes)
    else:
        memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if sys.platform == "linux":
        # Huge pages would bring the memory of whole sessions with their first token.
        with contextlib.suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype=dtype).reshape(shape)
