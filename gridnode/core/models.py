"""What the swarm must know of a model to place and route its blocks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

ExecutorName = Literal["auto", "torch", "onnx"]
KvFormat = Literal["auto", "int8"]
"""What computes a span; `auto` chooses."""

DTypeName = Literal["auto", "float32", "bfloat16", "float16"]
"""Type of what is not quantized; `auto` chooses."""

DeviceName = Literal["cpu", "cuda", "mps", "xpu"]
"""What a worker computes on."""


LARGE_GROUP_SIZE = 128
"""Weights of one group of int4-g128; matrices whose inputs do not fill such groups have those of int4."""


class QuantFormat(StrEnum):
    """How the weights of blocks are stored: int8 and int4 with a scale for each group of 32 values, int4-g128
    with one for 128; nf4, of bitsandbytes, with unequal steps."""

    NONE = "none"
    INT8 = "int8"
    INT4 = "int4"
    INT4_G128 = "int4-g128"
    NF4 = "nf4"

    @property
    def is_cached(self) -> bool:
        """Whether quantized blocks are kept on the disk, and mapped when they are needed again."""
        return self in (QuantFormat.INT8, QuantFormat.INT4, QuantFormat.INT4_G128)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The shape of a model, read from its configuration without loading a weight."""

    family: str
    """`model_type` of transformers: `"llama"`, `"qwen3"`, ..."""

    num_blocks: int
    hidden_size: int
    num_heads: int

    num_kv_heads: int
    """Key/value heads; fewer than `num_heads` with grouped-query attention."""

    head_dim: int
    vocab_size: int

    max_positions: int
    """Longest context that the model was trained for, in tokens."""

    block_params: int
    """Weights of one block (the largest, if they differ)."""

    embed_params: int
    """Weights of the embeddings."""

    head_params: int
    """Weights of the head and the norm before it; the head counts even when tied to the embeddings."""

    def kv_bytes_per_token(self, num_blocks: int, *, bytes_per_value: int) -> int:
        """Return the bytes of KV cache that one token takes in `num_blocks` blocks."""
        keys_and_values = 2
        return keys_and_values * self.num_kv_heads * self.head_dim * bytes_per_value * num_blocks
