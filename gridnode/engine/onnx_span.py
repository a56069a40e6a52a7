"""OnnxSpan: consecutive blocks of a Llama-like model as graphs of ONNX Runtime. The fast path of CPUs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnxruntime

from gridnode.core.models import KvFormat, QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.allocator import returning_memory
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import Array, Output, SpanCache, SpanStep
from gridnode.engine.onnx_blocks import BlockBuilder, embedding_scale, unsupported_reason
from gridnode.engine.onnx_cache import MAX_PADDING_TOKENS, OnnxCache
from gridnode.engine.onnx_stack import BlockStack, RowStep
from gridnode.errors import BadInput, NoTraining


class OnnxSpan:
    """A `gridnode.engine.executor.SpanExecutor` on ONNX Runtime.

    On quantized weights the bits of a token's hidden states depend on the tokens before it, and not on how
    they were cut into steps, or computed together with those of other sessions: a replay may cut them
    otherwise, and a step may verify draft tokens.

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
        kv: KvFormat = "auto",
        max_positions: int,
        num_threads: int | None = None,
        on_block: Callable[[], None] = lambda: None,
    ) -> None:
        reason = unsupported_reason(checkpoint)
        if reason is not None:
            raise BadInput(f"the onnx executor cannot run {checkpoint.model_id.name}: {reason}; use torch")
        self._span = span
        self._facts = checkpoint.facts
        self._kv = kv
        builder = BlockBuilder(
            checkpoint=checkpoint,
            quantization=quantization,
            kv=kv,
            max_positions=max_positions + MAX_PADDING_TOKENS,
        )
        num_threads = num_threads or os.cpu_count() or 1
        self._embeddings: Array | None = None
        self._norm: onnxruntime.InferenceSession | None = None
        self._head: onnxruntime.InferenceSession | None = None
        with returning_memory():
            if span.start == 0:
                rows = checkpoint.read(checkpoint.embed_name)
                is_exact = quantization is QuantFormat.NONE
                self._embeddings = rows.astype(np.float32 if is_exact else np.float16)
                self._embedding_scale = np.float32(embedding_scale(checkpoint.config))
            self._blocks = BlockStack(builder, span, num_threads=num_threads, on_block=on_block)
            if span.end == self._facts.num_blocks:
                self._norm = builder.norm_graph().session(num_threads=num_threads)
                self._head = builder.head_graph().session(num_threads=num_threads)

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
        return self._facts.kv_bytes_per_token(1, bytes_per_value=1 if self._kv == "int8" else 4)

    def allocate(
        self, span: Span, *, batch: int, max_tokens: int, tuned: Mapping[str, Array] | None = None
    ) -> SpanCache:
        """Return an empty cache for the blocks of `span`, which are as they are."""
        if tuned:
            raise NoTraining(
                "this node adds no prompts or adapters to its blocks; start it with '--executor torch'"
            )
        shape = (self._facts.num_kv_heads, max_tokens, self._facts.head_dim)
        return OnnxCache(span, self._blocks.attentions(span), batch=batch, shape=shape)

    def compute(self, steps: Sequence[SpanStep]) -> list[Array | None]:
        """Run `steps`: those through the same blocks together."""
        hidden: dict[int, Array] = {}
        for span in {step.cache.span: None for step in steps}:
            mine = [i for i, step in enumerate(steps) if step.cache.span == span]
            hidden.update(zip(mine, self._through_blocks(span, [steps[i] for i in mine]), strict=True))
        found: list[Array | None] = [None] * len(steps)
        to_head = []
        for i, step in enumerate(steps):
            if step.output in (Output.LOGITS, Output.ALL_LOGITS):
                to_head.append(i)
            elif step.output is Output.HIDDEN:
                found[i] = hidden[i]
            elif step.output is Output.NORMED:
                assert self._norm is not None
                found[i] = self._norm.run(["normed"], {"hidden": hidden[i]})[0]
        if to_head:
            last = [hidden[i] if steps[i].output is Output.ALL_LOGITS else hidden[i][:, -1:] for i in to_head]
            for i, logits in zip(to_head, self._logits(last), strict=True):
                found[i] = logits
        return found

    def backward(
        self, span: Span, hidden: Array, gradient: Array, tuned: Mapping[str, Array] | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Raise: ONNX Runtime computes no gradients here."""
        raise NoTraining("this node computes without gradients; start it with '--executor torch' for them")

    def _through_blocks(self, span: Span, steps: Sequence[SpanStep]) -> list[Array]:
        inputs = [self._input(step) for step in steps]
        rows = []
        for step, values in zip(steps, inputs, strict=True):
            cache = step.cache
            assert isinstance(cache, OnnxCache)
            rows += [
                RowStep(row=row, position=step.position, num_tokens=values.shape[1]) for row in cache.rows
            ]
        return _apart(self._blocks.run(span, rows, _stacked(inputs)), inputs)

    def _logits(self, hidden: Sequence[Array]) -> list[Array]:
        assert self._head is not None
        return _apart(self._head.run(["logits"], {"hidden": _stacked(hidden)})[0], hidden)

    def _input(self, step: SpanStep) -> Array:
        if step.token_ids is not None:
            assert self._embeddings is not None
            return self._embeddings[step.token_ids].astype(np.float32) * self._embedding_scale
        assert step.hidden is not None
        return np.ascontiguousarray(step.hidden, dtype=np.float32)


def _stacked(arrays: Sequence[Array]) -> Array:
    """Return all tokens of `arrays`, `[batch, tokens, width]` each, as `[1, all tokens, width]`."""
    return np.concatenate([array.reshape(1, -1, array.shape[2]) for array in arrays], axis=1)


def _apart(stacked: Array, like: Sequence[Array]) -> list[Array]:
    """Return what `_stacked` put together, with the width of `stacked`."""
    counts = [array.shape[0] * array.shape[1] for array in like]
    parts = np.split(stacked, np.cumsum(counts)[:-1], axis=1)
    return [part.reshape(*array.shape[:2], -1) for part, array in zip(parts, like, strict=True)]
