"""Steps of many sessions in one pass over the weights: each session gets the bits that it gets alone."""

import gc
from collections.abc import Callable

import numpy as np
import psutil
import pytest
import tiny_models

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.executor import Array, Output, SpanCache, SpanStep
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.onnx_cache import OnnxCache
from gridnode.engine.onnx_span import OnnxSpan

WHOLE = Span(0, 4)
SIZES = {"hidden_size": 256, "intermediate_size": 384, "head_dim": 32}
RANDOM = np.random.default_rng(5)


@pytest.fixture(scope="module", params=["llama", "qwen3", "llama-g128", "qwen2-kv8", "qwen3-kv8"])
def executor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OnnxSpan:
    family, _, variant = request.param.partition("-")
    path = tmp_path_factory.mktemp("models") / family
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path.parent / "cache"))
        checkpoint = open_checkpoint(str(tiny_models.make_model(path, family, **SIZES)))
        return OnnxSpan(
            checkpoint,
            WHOLE,
            quantization=QuantFormat.INT4_G128 if variant == "g128" else QuantFormat.INT4,
            kv="int8" if variant == "kv8" else "auto",
            max_positions=256,
            num_threads=1,
        )


def cache_of(executor: OnnxSpan, batch: int = 1, max_tokens: int = 100) -> SpanCache:
    return executor.allocate(WHOLE, batch=batch, max_tokens=max_tokens)


def token_ids(*shape: int) -> Array:
    return RANDOM.integers(0, 250, shape)


def test_prompts_drafts_and_single_tokens_together_give_the_bits_that_they_give_alone(
    executor: OnnxSpan,
) -> None:
    prompts = [token_ids(1, 9), token_ids(1, 1), token_ids(2, 4), token_ids(1, 33), token_ids(3, 1)]
    steps = [token_ids(1, 1), token_ids(1, 5), token_ids(2, 1), token_ids(1, 40), token_ids(3, 2)]

    def take(caches: list[SpanCache], position: Callable[[int], int], given: list[Array]) -> list[SpanStep]:
        outputs = [Output.LOGITS, Output.ALL_LOGITS, Output.HIDDEN, Output.NORMED, Output.ALL_LOGITS]
        return [
            SpanStep(cache=cache, position=position(i), token_ids=given[i], output=outputs[i])
            for i, cache in enumerate(caches)
        ]

    alone = [cache_of(executor, len(prompt)) for prompt in prompts]
    company = [cache_of(executor, len(prompt)) for prompt in prompts]
    for position, given in ((lambda _: 0, prompts), (lambda i: prompts[i].shape[1], steps)):
        expected = [executor.compute([step])[0] for step in take(alone, position, given)]
        found = executor.compute(take(company, position, given))
        for one, other in zip(found, expected, strict=True):
            assert one is not None
            assert np.array_equal(one, other)


def test_sessions_on_different_parts_of_the_span_share_a_turn(executor: OnnxSpan) -> None:
    hidden = [RANDOM.standard_normal((1, 3, 256), dtype=np.float32) for _ in range(3)]
    parts = [Span(0, 2), Span(1, 4), Span(0, 2)]

    def steps() -> list[SpanStep]:
        return [
            SpanStep(cache=executor.allocate(part, batch=1, max_tokens=10), position=0, hidden=values)
            for part, values in zip(parts, hidden, strict=True)
        ]

    expected = [executor.compute([step])[0] for step in steps()]
    for found, alone in zip(executor.compute(steps()), expected, strict=True):
        assert found is not None
        assert np.array_equal(found, alone)


def test_what_is_not_a_number_in_one_session_stays_in_it(executor: OnnxSpan) -> None:
    hidden = RANDOM.standard_normal((1, 1, 256), dtype=np.float32)
    broken = np.full((1, 1, 256), np.nan, np.float32)

    def step(values: Array) -> SpanStep:
        return SpanStep(cache=cache_of(executor), position=0, hidden=values)

    [expected] = executor.compute([step(hidden)])
    first, _, last = executor.compute([step(hidden), step(broken), step(hidden)])
    assert expected is not None
    assert first is not None
    assert last is not None
    assert np.array_equal(first, expected)
    assert np.array_equal(last, expected)


@pytest.mark.parametrize("parents", [(2, 2, 0), (1, 1, 1), (2, 1, 0), (0, 1, 2), (0, 0, 1)])
def test_reordered_rows_go_on_as_if_they_had_the_past_of_their_parents(
    executor: OnnxSpan, parents: tuple[int, ...]
) -> None:
    past, new = token_ids(3, 7), token_ids(3, 2)
    cache = cache_of(executor, 3)
    executor.compute([SpanStep(cache=cache, position=0, token_ids=past)])
    assert isinstance(cache, OnnxCache)
    cache.reorder(parents, 7)
    [found] = executor.compute([SpanStep(cache=cache, position=7, token_ids=new)])
    other = cache_of(executor, 3)
    executor.compute([SpanStep(cache=other, position=0, token_ids=past[list(parents)])])
    [expected] = executor.compute([SpanStep(cache=other, position=7, token_ids=new)])
    assert found is not None
    assert expected is not None
    assert np.array_equal(found, expected)


def test_a_cache_takes_the_memory_of_the_tokens_that_reached_it_and_gives_it_back(
    executor: OnnxSpan,
) -> None:
    def resident() -> int:
        gc.collect()
        return psutil.Process().memory_info().rss

    max_tokens, used = 800_000 // executor.kv_bytes_per_token * 256, 200
    step = token_ids(1, used)
    executor.compute([SpanStep(cache=cache_of(executor, 1, used), position=0, token_ids=step)])
    before = resident()
    whole_bytes = max_tokens * executor.kv_bytes_per_token * len(WHOLE)
    cache = cache_of(executor, 1, max_tokens)
    executor.compute([SpanStep(cache=cache, position=0, token_ids=step, output=Output.NONE)])
    assert whole_bytes > 200e6
    assert resident() - before < whole_bytes / 20
    assert isinstance(cache, OnnxCache)
    full = cache_of(executor, 1, max_tokens)
    assert isinstance(full, OnnxCache)
    full.rows[0].copy_from(cache.rows[0], max_tokens)
    assert resident() - before > whole_bytes / 2
    del cache, full
    assert resident() - before < whole_bytes / 20
