import shutil
from pathlib import Path

import numpy as np
import pytest
from chained_spans import Chain, reference_greedy, reference_logits, reference_model
from safetensors.numpy import load_file, save_file

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.block_cache import blocks_dir
from gridnode.engine.executor import Output, SpanStep
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.quantization import quantize
from gridnode.engine.torch_span import TorchSpan

CUTS = [[Span(0, 4)], [Span(0, 2), Span(2, 4)], [Span(0, 1), Span(1, 3), Span(3, 4)]]
TOKENS = np.random.default_rng(0).integers(0, 250, (1, 40))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def spans(path: Path, cut: list[Span], **options: object) -> list[TorchSpan]:
    checkpoint = open_checkpoint(str(path))
    return [TorchSpan(checkpoint, span, **options) for span in cut]  # type: ignore[arg-type]


@pytest.mark.parametrize("cut", CUTS, ids=len)
@pytest.mark.parametrize("family", ["tiny_llama", "tiny_llama_mha"])
def test_logits_and_greedy_tokens_equal_transformers(
    family: str, cut: list[Span], request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(family)
    model = reference_model(path)
    executors = spans(path, cut)
    assert np.abs(Chain(executors).run(TOKENS, 0) - reference_logits(model, TOKENS)).max() < 1e-4
    assert Chain(executors).greedy([1, 2, 3], 32) == reference_greedy(model, [1, 2, 3], 32)


@pytest.mark.parametrize("size", [40, 16, 7, 1])
def test_prompts_in_pieces_give_the_same_logits(tiny_llama: Path, size: int) -> None:
    executors = spans(tiny_llama, CUTS[1])
    difference = np.abs(Chain(executors).in_pieces(TOKENS, size) - Chain(executors).run(TOKENS, 0)).max()
    print(f"prefill in pieces of {size}: largest difference of logits {difference:.1e}")
    assert difference < 1e-3


def test_a_lower_position_rolls_the_cache_back(tiny_llama: Path) -> None:
    executors = spans(tiny_llama, CUTS[1])
    chain, straight = Chain(executors), Chain(executors)
    expected = straight.run(TOKENS, 0)
    chain.run(TOKENS[:, :30], 0)
    chain.run(np.full((1, 10), 9), 30)
    again = chain.run(TOKENS[:, 20:], 20)
    assert np.abs(again - expected[:, 20:]).max() < 1e-4


def test_a_session_may_use_a_part_of_the_span(tiny_llama: Path) -> None:
    [whole] = spans(tiny_llama, CUTS[0])
    caches = [whole.allocate(span, batch=1, max_tokens=64) for span in (Span(0, 3), Span(3, 4))]
    for start, end in [(0, 25), (25, 40)]:
        step = SpanStep(cache=caches[0], position=start, token_ids=TOKENS[:, start:end])
        [hidden] = whole.compute([step])
        last = SpanStep(cache=caches[1], position=start, hidden=hidden, output=Output.ALL_LOGITS)
        [logits] = whole.compute([last])
    assert logits is not None
    expected = Chain([whole]).run(TOKENS, 0)[:, 25:]
    assert np.abs(logits - expected).max() < 1e-4


def test_rows_of_a_batch_do_not_touch_each_other(tiny_llama: Path) -> None:
    executors = spans(tiny_llama, CUTS[1])
    rows = np.random.default_rng(1).integers(0, 250, (2, 12))
    together = Chain(executors, batch=2).in_pieces(rows, 5)
    alone = np.concatenate([Chain(executors).in_pieces(rows[i : i + 1], 5) for i in range(2)])
    assert np.abs(together - alone).max() < 1e-4


def test_outputs_are_those_that_were_asked_for(tiny_llama: Path) -> None:
    [whole] = spans(tiny_llama, CUTS[0])
    every = Chain([whole]).run(TOKENS, 0, Output.ALL_LOGITS)
    assert every.shape == (1, 40, 260)
    last = Chain([whole]).run(TOKENS, 0, Output.LOGITS)
    assert last.shape == (1, 1, 260)
    assert np.abs(last - every[:, -1:]).max() < 1e-4
    assert Chain([whole]).run(TOKENS, 0, Output.HIDDEN).shape == (1, 40, 64)
    cache = whole.allocate(whole.span, batch=1, max_tokens=64)
    assert whole.compute([SpanStep(cache=cache, position=0, token_ids=TOKENS, output=Output.NONE)]) == [None]


def test_embeddings_and_head_are_loaded_where_they_are_used(tiny_llama: Path) -> None:
    first, middle, last = spans(tiny_llama, CUTS[2])
    assert [s.has_embeddings for s in (first, middle, last)] == [True, False, False]
    assert [s.has_head for s in (first, middle, last)] == [False, False, True]
    for span, embeds, heads in [(first, True, False), (middle, False, False), (last, False, True)]:
        model = span._model
        assert model.get_input_embeddings().weight.is_meta is not embeds
        assert model.get_output_embeddings().weight.is_meta is not heads


@pytest.mark.parametrize("quantization", [QuantFormat.INT8, QuantFormat.INT4])
def test_quantized_blocks_compute_with_the_weights_that_they_stand_for(
    tiny_llama: Path, tmp_path: Path, quantization: QuantFormat
) -> None:
    restored = Path(shutil.copytree(tiny_llama, tmp_path / "restored"))
    file = restored / "model.safetensors"
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if name.endswith("proj.weight") or name == "lm_head.weight":
            keeps_8_bits = name == "lm_head.weight" or name.split(".")[-2] in ("q_proj", "k_proj", "v_proj")
            bits = QuantFormat.INT8 if keeps_8_bits else quantization
            tensors[name] = quantize(tensor, bits).dequantize()
    save_file(tensors, file)
    expected = Chain(spans(restored, CUTS[0])).run(TOKENS, 0)
    found = Chain(spans(tiny_llama, CUTS[1], quantization=quantization)).run(TOKENS, 0)
    assert np.abs(found - expected).max() < 1e-4


def test_a_second_start_maps_the_quantized_blocks(tiny_llama: Path) -> None:
    expected = Chain(spans(tiny_llama, CUTS[0], quantization=QuantFormat.INT4)).run(TOKENS, 0)
    files = {file: file.stat().st_mtime_ns for file in blocks_dir().rglob("*.safetensors")}
    assert len(files) == 4
    [again] = spans(tiny_llama, CUTS[0], quantization=QuantFormat.INT4)
    assert np.array_equal(Chain([again]).run(TOKENS, 0), expected)
    assert files == {file: file.stat().st_mtime_ns for file in blocks_dir().rglob("*.safetensors")}


def test_bfloat16_computes_and_keeps_half_the_cache(tiny_llama: Path) -> None:
    """A29."""
    exact = Chain(spans(tiny_llama, CUTS[0])).run(TOKENS, 0)
    half = spans(tiny_llama, CUTS[1], dtype="bfloat16")
    assert half[0].kv_bytes_per_token == spans(tiny_llama, CUTS[0])[0].kv_bytes_per_token // 2
    logits = Chain(half).run(TOKENS, 0)
    assert np.abs(logits - exact).mean() / np.abs(exact).mean() < 0.1
