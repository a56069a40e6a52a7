"""Several executors of one model, run one after another like the hops of a route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from gridnode.core.spans import Span
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import Array, Output, SpanCache, SpanExecutor, SpanStep

MakeExecutor = Callable[[Checkpoint, Span], SpanExecutor]


class Chain:
    """A session through `executors`, which cover the whole model together."""

    def __init__(self, executors: Sequence[SpanExecutor], *, batch: int = 1, max_tokens: int = 256) -> None:
        self.executors = executors
        self.max_tokens = max_tokens
        self.caches: list[SpanCache] = [
            executor.allocate(executor.span, batch=batch, max_tokens=max_tokens) for executor in executors
        ]

    def run(self, token_ids: Array, position: int, output: Output = Output.ALL_LOGITS) -> Array:
        """Return the output of the last span for `token_ids`, `[batch, tokens]`."""
        hidden: Array | None = None
        for executor, cache in zip(self.executors, self.caches, strict=True):
            is_last = executor is self.executors[-1]
            [hidden] = executor.compute(
                [
                    SpanStep(
                        cache=cache,
                        position=position,
                        token_ids=token_ids if hidden is None else None,
                        hidden=hidden,
                        output=output if is_last else Output.HIDDEN,
                    )
                ]
            )
        assert hidden is not None
        return hidden

    def in_pieces(self, token_ids: Array, size: int) -> Array:
        """Return all logits, computed in chunks of `size` tokens."""
        starts = range(0, token_ids.shape[1], size)
        return np.concatenate([self.run(token_ids[:, s : s + size], s) for s in starts], axis=1)

    def greedy(self, prompt: list[int], num_tokens: int) -> list[int]:
        """Return the most probable continuation of `prompt`."""
        token_ids = list(prompt)
        logits = self.run(np.array([prompt]), 0, Output.LOGITS)
        while True:
            token_ids.append(int(logits[0, -1].argmax()))
            if len(token_ids) == len(prompt) + num_tokens:
                return token_ids[len(prompt) :]
            logits = self.run(np.array([token_ids[-1:]]), len(token_ids) - 1, Output.LOGITS)


def reference_model(path: Path) -> PreTrainedModel:
    """Return the whole model by transformers, in float32."""
    model: PreTrainedModel
    if path.suffix == ".gguf":
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)
    else:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model.generation_config.eos_token_id = None
    return model.eval()


def reference_logits(model: PreTrainedModel, token_ids: Array) -> Array:
    """Return the logits by transformers, `[batch, tokens, vocab_size]`."""
    with torch.inference_mode():
        logits: Array = model(torch.from_numpy(token_ids)).logits.float().numpy()
    return logits


def reference_greedy(model: PreTrainedModel, prompt: list[int], num_tokens: int) -> list[int]:
    """Return the most probable continuation by transformers."""
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_tokens, do_sample=False
        )
    tokens: list[int] = found[0, len(prompt) :].tolist()
    return tokens
