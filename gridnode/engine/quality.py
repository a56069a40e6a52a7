"""What quantization costs: perplexity and KL divergence against unquantized weights.

The text is chapters V to VII of Lewis Carroll's "Alice's Adventures in Wonderland" (1865, public domain), in
the edition of the Canterbury corpus.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from gridnode.core.models import ExecutorName, KvFormat, QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import Array, Output, SpanExecutor, SpanStep
from gridnode.engine.requests import EngineConfig
from gridnode.engine.select import build_executor

WINDOW_TOKENS = 512
"""Tokens of one piece of the text; each piece is read without those before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well a model in one quantization tells the next token of a text."""

    quantization: QuantFormat
    kv: KvFormat
    """How keys and values were kept; `auto` is float32."""

    executor: str
    perplexity: float
    """The exponential of the mean surprise per token, in nats; less is better."""

    kl_divergence: float
    """Of its probabilities from those of the unquantized weights: nats per token, 0 if they are equal."""

    same_choice: float
    """Share of the positions where it finds the same token most probable, between 0 and 1."""


def bundled_text() -> str:
    """Return the text that ships with gridnode."""
    return (resources.files("gridnode.engine") / "texts" / "wonderland.txt").read_text(encoding="utf-8")


class QualityTest:
    """Compares quantizations of one model with its unquantized weights, one after another.

    Args:
        scratch: Directory for the probabilities of the unquantized weights: 2 bytes for each token of the
            text and each one of the vocabulary.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        location: str,
        token_ids: Sequence[int],
        *,
        scratch: Path,
        num_threads: int | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._location = location
        self._token_ids = np.array(token_ids, dtype=np.int64)
        self._num_threads = num_threads
        shape = (len(token_ids), checkpoint.facts.vocab_size)
        self._reference = np.memmap(scratch / "log-probabilities", dtype=np.float16, mode="w+", shape=shape)
        self.exact = self._measure(QuantFormat.NONE, "auto", "auto")
        """Of the unquantized weights, float32."""

    def measure(
        self, quantization: QuantFormat, *, executor: ExecutorName = "auto", kv: KvFormat = "auto"
    ) -> Quality:
        """Return the figures of one quantization.

        Raises:
            BadInput: `executor` cannot run this model, or not with such keys and values.
        """
        return self._measure(quantization, executor, kv)

    def _measure(self, quantization: QuantFormat, executor: ExecutorName, kv: KvFormat) -> Quality:
        is_reference = quantization is QuantFormat.NONE
        config = EngineConfig(
            location=self._location,
            span=Span(0, self._checkpoint.facts.num_blocks),
            quantization=quantization,
            dtype="float32",
            executor=executor,
            kv=kv,
            cache_tokens=WINDOW_TOKENS,
            num_threads=self._num_threads,
        )
        name, span = build_executor(config, self._checkpoint, on_block=lambda: None)
        surprises, divergences, agreements = [], [], []
        for start, log_probs in self._log_probs(span):
            rows = np.arange(len(log_probs))
            following = self._token_ids[start + 1 : start + 1 + len(log_probs)]
            surprises.append(-log_probs[rows, following])
            if is_reference:
                self._reference[start : start + len(log_probs)] = log_probs
            expected = self._reference[start : start + len(log_probs)].astype(np.float32)
            divergences.append((np.exp(expected) * (expected - log_probs)).sum(axis=-1))
            agreements.append(expected.argmax(axis=-1) == log_probs.argmax(axis=-1))
        return Quality(
            quantization=quantization,
            kv=kv,
            executor=name,
            perplexity=float(np.exp(np.concatenate(surprises).mean())),
            kl_divergence=0.0 if is_reference else float(np.concatenate(divergences).mean()),
            same_choice=1.0 if is_reference else float(np.concatenate(agreements).mean()),
        )

    def _log_probs(self, executor: SpanExecutor) -> Iterator[tuple[int, Array]]:
        """Yield where each piece of the text starts, and what follows each of its tokens but the last."""
        cache = executor.allocate(executor.span, batch=1, max_tokens=WINDOW_TOKENS)
        for start in range(0, len(self._token_ids) - 1, WINDOW_TOKENS):
            piece = self._token_ids[None, start : start + WINDOW_TOKENS]
            step = SpanStep(cache=cache, position=0, token_ids=piece, output=Output.ALL_LOGITS)
            [logits] = executor.compute([step])
            assert logits is not None
            yield start, _log_softmax(logits[0, :-1] if piece.shape[1] > 1 else logits[0])


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
