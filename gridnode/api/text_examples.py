"""Texts to train on: lines of JSON, as tokens of which some are to be learnt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gridnode.engine.text import TextCodec
from gridnode.errors import BadInput, reason


@dataclass(frozen=True, slots=True)
class TextExample:
    """One text: what stands before position `num_given` is given, the rest is to be learnt."""

    token_ids: list[int]
    num_given: int


def read_examples(path: Path, codec: TextCodec, *, max_tokens: int) -> list[TextExample]:
    """Return the examples of a file of JSON lines, cut at `max_tokens`.

    A line has `messages` (the last one is learnt), `prompt` and `completion` (which is learnt), or `text`.

    Raises:
        BadInput: a line is none of these; the text names it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"cannot read {path}: {reason(exc)}") from exc
    examples = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                example = make_example(json.loads(line), codec)
            except (ValueError, KeyError, TypeError, BadInput) as exc:
                raise BadInput(f"{path}:{number} is no example ({exc}); see gridnode tune --help") from exc
            examples.append(TextExample(example.token_ids[:max_tokens], example.num_given))
    usable = [example for example in examples if len(example.token_ids) > max(example.num_given, 1)]
    if not usable:
        raise BadInput(f"{path} has no example with something to learn within {max_tokens} tokens")
    return usable


def make_example(line: Any, codec: TextCodec) -> TextExample:
    """Return the example that one line of JSON means."""
    if "messages" in line:
        *given, last = line["messages"]
        prompt = codec.encode_chat(given)
        return TextExample(prompt + codec.encode_continuation(last["content"]) + _end(codec), len(prompt))
    if "prompt" in line:
        prompt = codec.encode(line["prompt"])
        return TextExample(prompt + codec.encode_continuation(line["completion"]), len(prompt))
    return TextExample(codec.encode(line["text"]), 1)


def loss_of_examples(model: Any, examples: Sequence[TextExample]) -> torch.Tensor:
    """Return the mean loss of the tokens that are to be learnt."""
    longest = max(len(example.token_ids) for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, example in enumerate(examples):
        end = len(example.token_ids)
        ids[row, :end] = torch.tensor(example.token_ids)
        mask[row, :end] = 1
        labels[row, example.num_given : end] = ids[row, example.num_given : end]
    loss: torch.Tensor = model(ids, attention_mask=mask, labels=labels, use_cache=False).loss
    return loss


def _end(codec: TextCodec) -> list[int]:
    """Return the token that ends an answer, if the model has one."""
    return sorted(codec.stop_ids)[:1]
