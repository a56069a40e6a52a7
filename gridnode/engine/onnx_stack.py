"""Running stacked tokens of many sessions through blocks: one pass over the weights for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime

from gridnode.core.spans import Span
from gridnode.engine.executor import Array
from gridnode.engine.kv_ranges import kv_scales
from gridnode.engine.onnx_attention import Attention
from gridnode.engine.onnx_blocks import BlockBuilder
from gridnode.engine.onnx_cache import BlockAttention, RowCache, StackedRows

# Stacks of up to this many tokens are kept: those of decode steps. Larger ones, of prompts, cost less to make
# than to hold.
MAX_KEPT_TOKENS = 32
# Each graph has threads of its own, which sleep between two runs; ONNX Runtime can share them among graphs
# only if they spin. A sleeping thread takes some 30 kB.
MAX_THREADS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class RowStep:
    """New tokens of one row of one session."""

    row: RowCache
    position: int
    num_tokens: int


class BlockStack:
    """The graphs of some blocks.

    The bits that come out for a token do not depend on what is stacked with it, and what is not a number in
    one session stays in it.

    Args:
        on_block: Called after each block that is ready.
    """

    def __init__(
        self,
        builder: BlockBuilder,
        span: Span,
        *,
        num_threads: int,
        on_block: Callable[[], None] = lambda: None,
    ) -> None:
        self._hidden_size = builder.checkpoint.facts.hidden_size
        self._qkv_width, self._attended_width = builder.qkv_width, builder.attended_width
        num_threads = max(1, min(num_threads, MAX_THREADS // (2 * len(span))))
        self._before: dict[int, onnxruntime.InferenceSession] = {}
        self._after: dict[int, onnxruntime.InferenceSession] = {}
        self._attentions: dict[int, BlockAttention] = {}
        kinds: dict[Attention, onnxruntime.InferenceSession] = {}
        for index in span:
            kind = builder.attention(index)
            if kind not in kinds:
                kinds[kind] = builder.attention_graph(kind).session(num_threads=num_threads)
            scales = kv_scales(builder.checkpoint, index) if kind.kv == "int8" else None
            self._attentions[index] = BlockAttention(graph=kinds[kind], scales=scales)
            self._before[index] = builder.before_attention_graph(index).session(num_threads=num_threads)
            self._after[index] = builder.after_attention_graph(index).session(num_threads=num_threads)
            on_block()
        self._multiple = builder.stack_multiple
        self._kept: dict[int, _Buffers] = {}

    def attentions(self, span: Span) -> list[BlockAttention]:
        """Return the attention of each block of `span`."""
        return [self._attentions[index] for index in span]

    def run(self, span: Span, steps: Sequence[RowStep], hidden: Array) -> Array:
        """Return stacked `hidden`, `[1, tokens, hidden_size]`, behind the last block of `span`.

        Args:
            steps: Of different rows, in the order of their tokens in `hidden`.
        """
        num_tokens = hidden.shape[1]
        buffers = self._buffers(num_tokens + -num_tokens % self._multiple)
        buffers.hidden[span.start % 2][:, :num_tokens] = hidden
        buffers.hidden[span.start % 2][:, num_tokens:] = 0.0
        start = 0
        for step in steps:
            step.row.begin(buffers.part(start, start + step.num_tokens), step.position)
            start += step.num_tokens
        for index, block_index in enumerate(span):
            before, after = buffers.bindings[block_index]
            self._before[block_index].run_with_iobinding(before)
            for step in steps:
                step.row.attend(index)
            self._after[block_index].run_with_iobinding(after)
        return buffers.hidden[span.end % 2][:, :num_tokens].copy()

    def _buffers(self, num_tokens: int) -> _Buffers:
        found = self._kept.get(num_tokens)
        if found is None:
            widths = (self._hidden_size, self._qkv_width, self._attended_width)
            found = _Buffers(num_tokens, widths)
            found.bind(self._before, self._after)
            if num_tokens <= MAX_KEPT_TOKENS:
                self._kept[num_tokens] = found
        return found


class _Buffers:
    """What blocks read and write for a number of stacked tokens; hidden states alternate between two."""

    def __init__(self, num_tokens: int, widths: tuple[int, int, int]) -> None:
        hidden_size, qkv_width, attended_width = widths
        self.hidden = [np.zeros((1, num_tokens, hidden_size), np.float32) for _ in range(2)]
        self.qkv = np.zeros((1, num_tokens, qkv_width), np.float32)
        self.attended = np.zeros((1, num_tokens, attended_width), np.float32)
        self.bindings: dict[int, tuple[onnxruntime.IOBinding, onnxruntime.IOBinding]] = {}
        """Of the parts before and after the attention, by block."""

        self._parts: dict[tuple[int, int], StackedRows] = {}

    def bind(
        self,
        before: dict[int, onnxruntime.InferenceSession],
        after: dict[int, onnxruntime.InferenceSession],
    ) -> None:
        """Bind the graphs of all blocks to these buffers."""
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        hidden, qkv, attended = [value(each) for each in self.hidden], value(self.qkv), value(self.attended)
        for block_index in before:
            first = before[block_index].io_binding()
            first.bind_ortvalue_input("hidden", hidden[block_index % 2])
            first.bind_ortvalue_output("qkv", qkv)
            last = after[block_index].io_binding()
            last.bind_ortvalue_input("hidden", hidden[block_index % 2])
            last.bind_ortvalue_input("attended", attended)
            last.bind_ortvalue_output("result", hidden[(block_index + 1) % 2])
            self.bindings[block_index] = (first, last)

    def part(self, start: int, end: int) -> StackedRows:
        """Return where the tokens from `start` to `end` go into the attention."""
        found = self._parts.get((start, end))
        if found is None:
            found = self._parts[start, end] = StackedRows(self.qkv, self.attended, start, end)
        return found
