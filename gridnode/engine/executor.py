"""What every span executor offers: TorchSpan (reference) and OnnxSpan (CPU fast path).

Imports neither torch nor onnxruntime. Arrays cross this interface as numpy arrays; bfloat16
is `ml_dtypes.bfloat16`. Executors are synchronous and used by one thread: the engine worker's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy.typing as npt

from gridnode.core.spans import Span

Array = npt.NDArray[Any]


class Output(StrEnum):
    """What a step has to return from the last block of its span."""

    NONE = "none"
    """Nothing: a chunk of a prompt at the last hop, which only fills the KV cache."""

    HIDDEN = "hidden"
    """Hidden states behind the last block: `[batch, tokens, hidden_size]`, before the final norm."""

    NORMED = "normed"
    """The same behind the final norm. Needs the head."""

    LOGITS = "logits"
    """Logits of the last token: `[batch, 1, vocab_size]`, float32. Needs the head."""

    ALL_LOGITS = "all_logits"
    """Logits of every token: `[batch, tokens, vocab_size]`, float32. Needs the head."""


class SpanCache(Protocol):
    """Keys and values of one session in the blocks of one span. Made by an executor, opaque to others."""

    @property
    def span(self) -> Span:
        """The blocks that this cache serves; a part of the executor's span."""
        ...

    @property
    def batch(self) -> int:
        """Rows: independent sequences of the session."""
        ...

    @property
    def max_tokens(self) -> int:
        """Positions per row."""
        ...

    def reorder(self, parents: Sequence[int], num_tokens: int) -> None:
        """Let row i go on from the first `num_tokens` tokens of what row `parents[i]` holds (beam search)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpanStep:
    """New tokens of one session, to be run through the blocks of its cache's span."""

    cache: SpanCache

    position: int
    """Tokens already in the cache that count; what lies behind is overwritten (rollback)."""

    token_ids: Array | None = None
    """`[batch, tokens]` int64, if the span starts at block 0 and this executor holds the embeddings."""

    hidden: Array | None = None
    """`[batch, tokens, hidden_size]`, otherwise. Exactly one of the two is given."""

    output: Output = Output.HIDDEN


class SpanExecutor(Protocol):
    """Runs consecutive blocks of one model on one device."""

    @property
    def span(self) -> Span:
        """The blocks that are loaded."""
        ...

    @property
    def has_embeddings(self) -> bool:
        """Whether steps at block 0 may give token ids."""
        ...

    @property
    def has_head(self) -> bool:
        """Whether steps that end at the last block may ask for logits."""
        ...

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of KV cache that one token of one row takes in one block."""
        ...

    def allocate(
        self, span: Span, *, batch: int, max_tokens: int, tuned: Mapping[str, Array] | None = None
    ) -> SpanCache:
        """Return an empty cache for the blocks of `span`. The caller keeps the budget.

        Args:
            tuned: What to add to the blocks in this session, see `gridnode.engine.tuned_tensors`.

        Raises:
            BadInput: something of it does not fit the blocks.
            NoCapacity: this executor cannot add anything.
        """
        ...

    def backward(
        self, span: Span, hidden: Array, gradient: Array, tuned: Mapping[str, Array] | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Return the gradients with respect to `hidden`, which went into the blocks of `span`, and `tuned`.

        Args:
            hidden: `[batch, tokens, hidden_size]`, at the positions from 0 on.
            gradient: That with respect to what came out of the blocks, of the same shape.
            tuned: What to add to the blocks.

        Raises:
            BadInput: something of `tuned` does not fit the blocks.
            NoCapacity: this executor has no gradients.
        """
        ...

    def compute(self, steps: Sequence[SpanStep]) -> list[Array | None]:
        """Run `steps`, of different sessions, and return the output of each.

        The result of a step does not depend on its neighbours beyond floating-point noise.
        """
        ...
