"""Choosing which blocks a node serves."""

from __future__ import annotations

from collections.abc import Iterable

from gridnode.core.models import LARGE_GROUP_SIZE, ModelFacts, QuantFormat
from gridnode.core.spans import Span, coverage
from gridnode.errors import NoCapacity
from gridnode.units import format_bytes

# Activations, code and allocator slack of the engine worker beside weights and KV cache.
ENGINE_OVERHEAD_BYTES = 600 * 1024 * 1024
# Norms, and what the allocator rounds up.
_BLOCK_SLACK = 1.02
# Bits of a weight in memory, measured: of queries, keys and values, and of all others. ONNX Runtime holds two
# float32 values for each group; what TorchSpan maps takes less.
_BITS = {
    QuantFormat.INT8: (10.0, 10.0),
    QuantFormat.INT4: (10.0, 6.4),
    QuantFormat.INT4_G128: (10.0, 4.8),
    QuantFormat.NF4: (4.5, 4.5),
}
# Their matrices, or those of their experts, lie transposed, and stay as they are.
_UNQUANTIZED = frozenset({"gpt2", "gpt_bigcode", "gpt_oss", "llama4_text"})


def block_bytes(facts: ModelFacts, quantization: QuantFormat, *, bytes_per_value: int) -> int:
    """Return the bytes of one block's weights in memory.

    Args:
        bytes_per_value: Bytes of one unquantized weight: 4 for float32, 2 for bfloat16.
    """
    if quantization is QuantFormat.INT4_G128 and facts.hidden_size % LARGE_GROUP_SIZE:
        quantization = QuantFormat.INT4
    if facts.family in _UNQUANTIZED:
        quantization = QuantFormat.NONE
    bits, other_bits = _BITS.get(quantization, (8.0 * bytes_per_value,) * 2)
    width = (facts.num_heads + 2 * facts.num_kv_heads) * facts.head_dim
    queries_keys_values = min(facts.hidden_size * width, facts.block_params)
    others = facts.block_params - queries_keys_values
    return int((queries_keys_values * bits + others * other_bits) / 8 * _BLOCK_SLACK)


def blocks_that_fit(
    facts: ModelFacts,
    quantization: QuantFormat,
    *,
    memory_bytes: int,
    cache_tokens: int,
    bytes_per_value: int,
    kv_bytes_per_value: int,
) -> int:
    """Return how many blocks, with `cache_tokens` of KV cache each, fit into `memory_bytes`.

    Counts the embeddings and the head, because a node may end up with the first or last block.

    Raises:
        NoCapacity: not even one block fits.
    """
    one_block = block_bytes(facts, quantization, bytes_per_value=bytes_per_value)
    kv = facts.kv_bytes_per_token(1, bytes_per_value=kv_bytes_per_value) * cache_tokens
    ends = max(facts.embed_params, facts.head_params) * bytes_per_value
    room = memory_bytes - ENGINE_OVERHEAD_BYTES - ends
    count = room // (one_block + kv)
    if count < 1:
        needed = ENGINE_OVERHEAD_BYTES + ends + one_block + kv
        raise NoCapacity(
            f"one block needs {format_bytes(needed)} of memory, the budget is {format_bytes(memory_bytes)}; "
            "give more with --memory, or make blocks smaller with --quantize int4 or int4-g128"
        )
    return min(int(count), facts.num_blocks)


def weakest_span(spans: Iterable[Span], num_blocks: int, length: int) -> Span:
    """Return the span of `length` blocks where the swarm is weakest.

    Compares the sorted coverage of every window lexicographically, so that one gap outweighs any
    number of blocks with a single holder; ties go to the lowest block (Petals, arXiv:2209.01188).
    """
    length = min(length, num_blocks)
    counts = coverage(spans, num_blocks)
    starts = range(num_blocks - length + 1)
    start = min(starts, key=lambda i: sorted(counts[i : i + length]))
    return Span(start, start + length)
