"""Tiny random models of real families, with a tokenizer, written as transformers writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB_SIZE = 260
NUM_BLOCKS = 4
MAX_POSITIONS = 2048
EOS, BOS = 256, 257
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": NUM_BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": MAX_POSITIONS,
    "pad_token_id": 0,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    # Wide enough that greedy tokens do not hang on the last bits.
    "initializer_range": 0.3,
}

_OWN_HEADS = {"num_key_value_heads": None, "head_dim": None}
TUNED_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "bloom": {"n_head": 4, "n_layer": NUM_BLOCKS, **_OWN_HEADS},
    "falcon": {"multi_query": True, **_OWN_HEADS},
    "mixtral": {"num_local_experts": 4},
}
"""The families that Petals knows: what is trained through them is compared with one machine."""


def make_model(directory: Path, family: str = "llama", *, max_shard_size: str = "5GB", **config: Any) -> Path:
    """Write a random model of `family` into `directory` and return it; the same call gives the same one.

    Args:
        config: Of the configuration; None takes a value away that the family does not have.
    """
    torch.manual_seed(0)
    values = {name: value for name, value in {**SHAPE, **config}.items() if value is not None}
    shape = AutoConfig.for_model(family, **values)
    model = AutoModelForCausalLM.from_config(shape, dtype=torch.float32)
    model.save_pretrained(directory, max_shard_size=max_shard_size)
    make_tokenizer().save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "bos_token": "<|begin|>"}'
    )
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return directory


def make_tokenizer() -> Tokenizer:
    """Return a tokenizer of single bytes, with a few special tokens."""
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>", "<|begin|>", "<|user|>", "<|assistant|>"])
    return tokenizer
