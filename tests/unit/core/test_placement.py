from dataclasses import replace

import pytest

from gridnode.core.models import ModelFacts, QuantFormat
from gridnode.core.placement import ENGINE_OVERHEAD_BYTES, block_bytes, blocks_that_fit, weakest_span
from gridnode.core.spans import Span
from gridnode.errors import NoCapacity
from gridnode.units import GIB, MIB

FACTS = ModelFacts(
    family="llama",
    num_blocks=32,
    hidden_size=4096,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    vocab_size=128256,
    max_positions=8192,
    block_params=218_112_000,
    embed_params=525_336_576,
    head_params=525_340_672,
)


def fit(memory_bytes: int, quantization: QuantFormat = QuantFormat.INT4) -> int:
    return blocks_that_fit(
        FACTS,
        quantization,
        memory_bytes=memory_bytes,
        cache_tokens=8192,
        bytes_per_value=2,
        kv_bytes_per_value=2,
    )


def test_the_window_with_the_most_gaps_is_the_weakest() -> None:
    assert weakest_span([Span(0, 10), Span(20, 30)], 30, 10) == Span(10, 20)
    assert weakest_span([Span(0, 10), Span(14, 30)], 30, 10) == Span(4, 14)


def test_three_nodes_one_after_another_cover_the_model() -> None:
    spans: list[Span] = []
    for _ in range(3):
        spans.append(weakest_span(spans, 30, 10))
    assert spans == [Span(0, 10), Span(10, 20), Span(20, 30)]


def test_a_node_that_holds_everything_starts_at_the_beginning() -> None:
    assert weakest_span([], 6, 100) == Span(0, 6)


def test_with_everything_covered_the_least_covered_blocks_are_taken() -> None:
    assert weakest_span([Span(0, 6), Span(0, 4)], 6, 2) == Span(4, 6)


def test_more_memory_holds_more_blocks_up_to_the_model() -> None:
    assert 1 <= fit(3 * GIB) < fit(5 * GIB) <= fit(1000 * GIB) == FACTS.num_blocks


def test_fewer_bits_hold_more_blocks() -> None:
    formats = (QuantFormat.NONE, QuantFormat.INT8, QuantFormat.INT4, QuantFormat.INT4_G128)
    held = [fit(6 * GIB, quantization) for quantization in formats]
    assert held == sorted(set(held))


def test_queries_keys_and_values_of_int4_have_8_bits() -> None:
    """With as many heads of keys as of queries, as Llama 2 7B has, they are a fourth of a block."""
    few, many = (
        block_bytes(replace(FACTS, num_kv_heads=heads), QuantFormat.INT4, bytes_per_value=2)
        for heads in (8, 32)
    )
    assert many - few == pytest.approx(4096 * 2 * 24 * 128 * (10.0 - 6.4) / 8 * 1.02, abs=1)


def test_matrices_that_do_not_fill_large_groups_are_planned_in_small_ones() -> None:
    narrow = replace(FACTS, hidden_size=576)
    large, small = (
        block_bytes(narrow, quantization, bytes_per_value=4)
        for quantization in (QuantFormat.INT4_G128, QuantFormat.INT4)
    )
    assert large == small


def test_families_that_stay_unquantized_are_planned_so() -> None:
    found, expected = (
        block_bytes(replace(FACTS, family="gpt_oss"), quantization, bytes_per_value=4)
        for quantization in (QuantFormat.INT8, QuantFormat.NONE)
    )
    assert found == expected


def test_kv_cache_is_part_of_the_bill() -> None:
    weights = block_bytes(FACTS, QuantFormat.INT4, bytes_per_value=2)
    assert FACTS.kv_bytes_per_token(1, bytes_per_value=2) == 4096
    room = ENGINE_OVERHEAD_BYTES + FACTS.head_params * 2
    assert fit(room + weights + 8192 * 4096) == 1
    with pytest.raises(NoCapacity):
        fit(room + weights)


def test_too_little_memory_says_what_one_block_needs() -> None:
    with pytest.raises(NoCapacity, match=r"one block needs .* the budget is 100 MiB; .*--quantize int4"):
        fit(100 * MIB)
