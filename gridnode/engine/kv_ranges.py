"""The ranges of int8 keys and values, from the weights alone.

One scale per channel and block, the same for all sessions and tokens: what is stored for a token then
depends on nothing else, so that company, chunks and replays change no bit. Behind a norm, the values of a
token have a mean square of 1; were they independent, those of a channel would spread like the length of its
row of weights. Measured on SmolLM2-135M, no key comes beyond 8 such spreads and no value beyond 6 (keys are
rotated, so that two channels share a range).
"""

from __future__ import annotations

import math

import numpy as np

from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import Array
from gridnode.engine.norms import norm_weight

_KEY_SPREADS = 8.0
_VALUE_SPREADS = 6.0
_LEVELS = 127.0


def kv_scales(checkpoint: Checkpoint, block_index: int) -> tuple[Array, Array]:
    """Return what one step of int8 stands for in keys and in values, float32 `[kv_heads, 1, head_dim]`."""
    facts = checkpoint.facts
    prefix = f"model.layers.{block_index}."
    gain = norm_weight(checkpoint, f"{prefix}input_layernorm.weight")
    of_keys, of_values = _layers(checkpoint, prefix)
    head_norm_name = f"{prefix}self_attn.k_norm.weight"
    if head_norm_name not in checkpoint.tensors:
        keys = _range(of_keys, gain, _KEY_SPREADS)
    else:
        head_norm = norm_weight(checkpoint, head_norm_name)
        # A normed head has a mean square of 1, so that no value of it exceeds the root of its size.
        largest = min(_KEY_SPREADS, math.sqrt(facts.head_dim))
        keys = np.tile(np.abs(head_norm) * largest, facts.num_kv_heads)
    values = _range(of_values, gain, _VALUE_SPREADS)
    halves = keys.reshape(facts.num_kv_heads, 2, facts.head_dim // 2)
    rotated = np.sqrt(np.square(halves).sum(axis=1, keepdims=True))
    both = np.concatenate([rotated, rotated], axis=1).reshape(facts.num_kv_heads, 1, facts.head_dim)
    shape = (facts.num_kv_heads, 1, facts.head_dim)
    return (both / _LEVELS).astype(np.float32), (values.reshape(shape) / _LEVELS).astype(np.float32)


def _layers(checkpoint: Checkpoint, prefix: str) -> list[tuple[Array, Array | None]]:
    """Return weights and bias of the layers that make the keys and the values of a block."""
    joined = _read(checkpoint, f"{prefix}self_attn.qkv_proj.weight")
    if joined is None:
        names = [f"{prefix}self_attn.{layer}" for layer in ("k_proj", "v_proj")]
        return [(_stored(checkpoint, f"{n}.weight"), _read(checkpoint, f"{n}.bias")) for n in names]
    facts = checkpoint.facts  # queries, keys and values below each other (Phi-3)
    ends = np.cumsum([facts.num_heads, facts.num_kv_heads]) * facts.head_dim
    return [(part, None) for part in np.split(joined, ends)[1:]]


def _range(layer: tuple[Array, Array | None], gain: Array, spreads: float) -> Array:
    weights, bias = layer
    found = spreads * np.sqrt(np.square(weights * gain).sum(axis=1))
    # Zero would be divided by.
    widest: Array = np.maximum(found if bias is None else found + np.abs(bias), np.float32(1e-6))
    return widest


def _stored(checkpoint: Checkpoint, name: str) -> Array:
    found: Array = checkpoint.read(name).astype(np.float32)
    return found


def _read(checkpoint: Checkpoint, name: str) -> Array | None:
    return _stored(checkpoint, name) if name in checkpoint.tensors else None
