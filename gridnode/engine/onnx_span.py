"""OnnxSpan: consecutive blocks of a Llama-like model as one ONNX Runtime graph. The fast path of CPUs."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnxruntime

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.allocator import returning_memory
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import Array, Output, SpanCache, SpanStep
from gridnode.engine.onnx_blocks import BlockBuilder, unsupported_reason
from gridnode.errors import BadInput, NoCapacity

# Routes with overlapping spans use parts of ours; each part is a graph of its own, with its packed weights.
MAX_GRAPHS = 3
# The attention takes rows in tiles, whose size depends on the model and the processor. A tile of one row goes
# through another kernel, which sums in another order. Tiles are even: an even number of rows leaves none.
_ROWS_MULTIPLE = 2
_MAX_PADDING_TOKENS = _ROWS_MULTIPLE - 1


class _RowCache:
    """Keys and values of one row, `[1, kv_heads, max_tokens, head_dim]` for each block, bound to a graph."""

    def __init__(self, graph: onnxruntime.InferenceSession, span: Span, shape: tuple[int, ...]) -> None:
        self.graph = graph
        self.binding = graph.io_binding()
        for block_index in span:
            for kind in ("key", "value"):
                # Zeroed pages take no memory until a token reaches them.
                buffer = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
                self.binding.bind_ortvalue_input(f"{kind}.{block_index}", buffer)
                self.binding.bind_ortvalue_output(f"new_{kind}.{block_index}", buffer)

    def run(self, hidden: Array, position: int) -> Array:
        """Return `hidden` (`[1, tokens, hidden_size]`) behind the last block."""
        padding = -hidden.shape[1] % _ROWS_MULTIPLE
        total = position + hidden.shape[1] + padding
        result = np.empty_like(hidden)
        self.binding.bind_cpu_input("hidden", hidden)
        self.binding.bind_cpu_input("padding", np.array([0, 0, 0, 0, padding, 0], dtype=np.int64))
        self.binding.bind_cpu_input("num_tokens", np.array([hidden.shape[1]], dtype=np.int64))
        self.binding.bind_cpu_input("seqlens_k", np.array([total - 1], dtype=np.int32))
        self.binding.bind_cpu_input("total_tokens", np.array([total], dtype=np.int32))
        self.binding.bind_ortvalue_output("result", onnxruntime.OrtValue.ortvalue_from_numpy(result))
        self.graph.run_with_iobinding(self.binding)
        return result


class OnnxCache:
    """Keys and values of one session.

    Rows are computed one after another: the attention operator takes several rows only while their
    caches are empty or one token long.
    """

    def __init__(
        self, graph: onnxruntime.InferenceSession, span: Span, *, batch: int, shape: tuple[int, int, int]
    ) -> None:
        self.span = span
        self.batch = batch
        self.max_tokens = shape[1]
        kv_heads, max_tokens, head_dim = shape
        buffer_shape = (1, kv_heads, max_tokens + _MAX_PADDING_TOKENS, head_dim)
        self._rows = [_RowCache(graph, span, buffer_shape) for _ in range(batch)]

    def run(self, hidden: Array, position: int) -> Array:
        """Return `hidden` (`[batch, tokens, hidden_size]`) behind the last block."""
        if self.batch == 1:
            return self._rows[0].run(hidden, position)
        return np.concatenate([row.run(hidden[i : i + 1], position) for i, row in enumerate(self._rows)])


class OnnxSpan:
    """A `gridnode.engine.executor.SpanExecutor` on ONNX Runtime.

    On quantized weights the bits of a token's hidden states depend on the tokens before it, and not on how
    they were cut into steps: a replay may cut them otherwise, and a step may verify draft tokens.

    Args:
        max_positions: Longest session, in tokens.
        on_block: Called after each block that is ready.

    Raises:
        BadInput: the model has no graph; the message says why.
        BadCheckpoint: a tensor is missing or damaged.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        span: Span,
        *,
        quantization: QuantFormat,
        max_positions: int,
        num_threads: int | None = None,
        on_block: Callable[[], None] = lambda: None,
    ) -> None:
        reason = unsupported_reason(checkpoint)
        if reason is not None:
            raise BadInput(f"the onnx executor cannot run {checkpoint.model_id.name}: {reason}; use torch")
        self._span = span
        self._facts = checkpoint.facts
        self._num_threads = num_threads or os.cpu_count() or 1
        self._builder = BlockBuilder(
            checkpoint=checkpoint,
            quantization=quantization,
            max_positions=max_positions + _MAX_PADDING_TOKENS,
        )
        self._graphs: OrderedDict[Span, onnxruntime.InferenceSession] = OrderedDict()
        self._embeddings: Array | None = None
        self._norm: onnxruntime.InferenceSession | None = None
        self._head: onnxruntime.InferenceSession | None = None
        with returning_memory():
            if span.start == 0:
                rows = checkpoint.read(checkpoint.embed_name)
                is_exact = quantization is QuantFormat.NONE
                self._embeddings = rows.astype(np.float32 if is_exact else np.float16)
            self._builder.on_block = on_block
            self._graph(span)
            self._builder.on_block = lambda: None
            if span.end == self._facts.num_blocks:
                self._norm = self._builder.norm_graph().session(num_threads=self._num_threads)
                self._head = self._builder.head_graph().session(num_threads=self._num_threads)

    @property
    def span(self) -> Span:
        """The blocks that are loaded."""
        return self._span

    @property
    def has_embeddings(self) -> bool:
        """Whether steps at block 0 may give token ids."""
        return self._embeddings is not None

    @property
    def has_head(self) -> bool:
        """Whether steps that end at the last block may ask for logits."""
        return self._head is not None

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of KV cache that one token of one row takes in one block."""
        return self._facts.kv_bytes_per_token(1, bytes_per_value=4)

    def allocate(
        self, span: Span, *, batch: int, max_tokens: int, tuned: Mapping[str, Array] | None = None
    ) -> SpanCache:
        """Return an empty cache for the blocks of `span`, which are as they are."""
        if tuned:
            raise NoCapacity(
                "this node adds no prompts or adapters to its blocks; start it with '--executor torch'"
            )
        shape = (self._facts.num_kv_heads, max_tokens, self._facts.head_dim)
        return OnnxCache(self._graph(span), span, batch=batch, shape=shape)

    def compute(self, steps: Sequence[SpanStep]) -> list[Array | None]:
        """Run `steps` one after another."""
        return [self._compute(step) for step in steps]

    def backward(
        self, span: Span, hidden: Array, gradient: Array, tuned: Mapping[str, Array] | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Raise: ONNX Runtime computes no gradients here."""
        raise NoCapacity("this node computes without gradients; start it with '--executor torch' for them")

    def _compute(self, step: SpanStep) -> Array | None:
        cache = step.cache
        assert isinstance(cache, OnnxCache)
        hidden = cache.run(self._input(step), step.position)
        if step.output is Output.NONE:
            return None
        if step.output is Output.HIDDEN:
            return hidden
        assert self._head is not None
        assert self._norm is not None
        if step.output is Output.NORMED:
            normed: Array = self._norm.run(["normed"], {"hidden": hidden})[0]
            return normed
        last = hidden if step.output is Output.ALL_LOGITS else hidden[:, -1:]
        logits: Array = self._head.run(["logits"], {"hidden": last})[0]
        return logits

    def _input(self, step: SpanStep) -> Array:
        if step.token_ids is not None:
            assert self._embeddings is not None
            return self._embeddings[step.token_ids].astype(np.float32)
        assert step.hidden is not None
        return np.ascontiguousarray(step.hidden, dtype=np.float32)

    def _graph(self, span: Span) -> onnxruntime.InferenceSession:
        """Return the graph of `span`; the one of the whole span stays, others end with their sessions."""
        graph = self._graphs.get(span)
        if graph is None:
            graph = self._builder.span_graph(span).session(num_threads=self._num_threads)
            self._graphs[span] = graph
            if len(self._graphs) > MAX_GRAPHS:
                del self._graphs[list(self._graphs)[1]]
        return graph
