"""Families of transformers through spans: the same blocks, gradients, logits and greedy tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from chained_spans import Chain, reference_greedy, reference_logits, reference_model
from transformers import AutoConfig, AutoModelForImageTextToText

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.executor import Output, SpanStep
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.torch_cache import TorchCache
from gridnode.engine.torch_span import TorchSpan
from gridnode.errors import BadInput

SLIDING = {"sliding_window": 8}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + i / 8 for i in range(8)],
    "long_factor": [2.0 + i for i in range(8)],
    "original_max_position_embeddings": 1024,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
OWN_HEADS: dict[str, Any] = {"head_dim": None, "num_key_value_heads": None}
LATENT = {
    "head_dim": None,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": None,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
}
# What is compared, by the name that docs/models.md gives it.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "arcee": ("arcee", {}),
    "bloom": ("bloom", {"n_head": 4, "n_layer": 4, **OWN_HEADS}),
    "cohere": ("cohere", {}),
    "cohere2": ("cohere2", SLIDING),
    "deepseek_v3": (
        "deepseek_v3",
        {**LATENT, "n_group": 2, "topk_group": 1, "n_routed_experts": 4, "num_experts_per_tok": 2}
        | {"first_k_dense_replace": 2},
    ),
    "ernie4_5": ("ernie4_5", {}),
    "exaone4": ("exaone4", SLIDING),
    "falcon (7B)": ("falcon", {"multi_query": True, **OWN_HEADS}),
    "falcon (40B, 180B)": (
        "falcon",
        {"new_decoder_architecture": True, "num_kv_heads": 2, "head_dim": None, "num_key_value_heads": None},
    ),
    "falcon (RW, ALiBi)": (
        "falcon",
        {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True, **OWN_HEADS},
    ),
    "gemma": ("gemma", {}),
    "gemma2": (
        "gemma2",
        SLIDING | {"layer_types": ["sliding_attention", "full_attention"] * 2, "query_pre_attn_scalar": 16},
    ),
    "gemma3_text": (
        "gemma3_text",
        SLIDING
        | {"layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "glm4": ("glm4", {}),
    "glm4_moe": ("glm4_moe", {"n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1}),
    "gpt2": ("gpt2", OWN_HEADS),
    "gpt_bigcode": ("gpt_bigcode", OWN_HEADS),
    "gpt_neox": ("gpt_neox", OWN_HEADS),
    "gpt_oss": ("gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2, **SLIDING}),
    "gptj": ("gptj", {"rotary_dim": 8, **OWN_HEADS}),
    "granite": (
        "granite",
        {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    ),
    "granitemoe": ("granitemoe", {"embedding_multiplier": 3.0}),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", {}),
    "llama": ("llama", {}),
    "llama (biases)": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama (3.x, scaled rotary)": ("llama", {"rope_parameters": LLAMA3_ROPE}),
    "llama (SmolLM: tied, 3 heads)": (
        "llama",
        {"tie_word_embeddings": True, "num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 48},
    ),
    "llama (TinyLlama: 8 heads, 1 KV head)": (
        "llama",
        {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 8},
    ),
    "llama4_text": ("llama4_text", {"num_local_experts": 2, "intermediate_size_mlp": 128}),
    "mistral": ("mistral", SLIDING),
    "mixtral": ("mixtral", {"num_local_experts": 4}),
    "mpt": ("mpt", {"d_model": 64, "n_heads": 4, "n_layers": 4, **OWN_HEADS}),
    "nemotron": ("nemotron", {}),
    "olmo": ("olmo", {}),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo3", SLIDING),
    "olmoe": ("olmoe", EXPERTS),
    "opt": ("opt", {"ffn_dim": 128, "word_embed_proj_dim": 64, **OWN_HEADS}),
    "phi": ("phi", {}),
    "phi3": ("phi3", {}),
    "phi3 (longrope)": ("phi3", {"rope_parameters": LONG_ROPE}),
    "phimoe": ("phimoe", {"num_local_experts": 4}),
    "qwen2": ("qwen2", {}),
    "qwen2_moe": ("qwen2_moe", EXPERTS | {"shared_expert_intermediate_size": 64}),
    "qwen3": ("qwen3", {}),
    "qwen3_moe": ("qwen3_moe", EXPERTS),
    "seed_oss": ("seed_oss", {}),
    "smollm3": ("smollm3", {}),
    "stablelm": ("stablelm", {}),
    "starcoder2": ("starcoder2", SLIDING),
}
TOKENS = np.random.default_rng(0).integers(0, 250, (1, 24))
CUT = (Span(0, 1), Span(1, 4))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def make(name: str, tmp_path: Path) -> Path:
    family, options = MODELS[name]
    return tiny_models.make_model(tmp_path / "model", family, **options)


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_greedy_tokens_equal_transformers(name: str, tmp_path: Path) -> None:
    path = make(name, tmp_path)
    model = reference_model(path)
    checkpoint = open_checkpoint(str(path))
    executors = [TorchSpan(checkpoint, span) for span in CUT]
    expected = reference_logits(model, TOKENS)
    scale = max(1.0, float(np.abs(expected).max()))
    chain = Chain(executors)
    assert np.abs(chain.run(TOKENS, 0) - expected).max() / scale < 1e-4
    assert np.abs(Chain(executors).in_pieces(TOKENS, 5) - expected).max() / scale < 1e-3
    assert Chain(executors).greedy([1, 2, 3], 20) == reference_greedy(model, [1, 2, 3], 20)
    for executor, cache in zip(executors, chain.caches, strict=True):
        assert isinstance(cache, TorchCache)
        planned = checkpoint.facts.kv_bytes_per_token(1, bytes_per_value=4)
        assert executor.kv_bytes_per_token == planned
        assert cache.num_bytes == planned * len(executor.span) * chain.max_tokens


@pytest.mark.parametrize("name", MODELS)
def test_blocks_and_their_input_gradients_equal_transformers(name: str, tmp_path: Path) -> None:
    path = make(name, tmp_path)
    model = reference_model(path)
    states = model(torch.from_numpy(TOKENS), output_hidden_states=True).hidden_states
    before, behind = states[1], states[3]
    gradient = torch.randn(behind.shape, generator=torch.Generator().manual_seed(0))
    [expected] = torch.autograd.grad(behind, before, gradient)

    span = TorchSpan(open_checkpoint(str(path)), Span(1, 4))
    hidden = before.detach().numpy()
    cache = span.allocate(Span(1, 3), batch=1, max_tokens=64)
    [found] = span.compute([SpanStep(cache=cache, position=0, hidden=hidden, output=Output.HIDDEN)])
    assert found is not None
    assert np.abs(found - behind.detach().numpy()).max() / float(behind.detach().abs().max()) < 1e-4
    back, _ = span.backward(Span(1, 3), hidden, gradient.numpy())
    assert np.abs(back - expected.numpy()).max() / float(expected.abs().max()) < 1e-3


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "bloom", "falcon (40B, 180B)"])
def test_quantized_blocks_stay_close_and_small(name: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(make(name, tmp_path)))
    exact = TorchSpan(checkpoint, Span(0, 4))
    quantized = TorchSpan(checkpoint, Span(0, 4), quantization=QuantFormat.INT8)
    expected = Chain([exact]).run(TOKENS, 0)
    found = Chain([quantized]).run(TOKENS, 0)
    assert 0 < np.abs(found - expected).mean() / np.abs(expected).mean() < 0.1
    left = sum(p.numel() for p in quantized._model.parameters() if not p.is_meta and p.ndim > 2)
    assert left == 0  # experts too


def test_of_a_model_that_sees_the_language_model_is_taken(tmp_path: Path) -> None:
    text = AutoConfig.for_model("gemma3_text", **tiny_models.SHAPE, **MODELS["gemma3_text"][1])
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "gemma3", text_config=text.to_dict(), vision_config={**vision, "image_size": 28, "patch_size": 14}
    )
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    model.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(str(tmp_path))
    assert checkpoint.facts.num_blocks == tiny_models.NUM_BLOCKS
    found = Chain([TorchSpan(checkpoint, span) for span in CUT]).run(TOKENS, 0)
    expected = reference_logits(model, TOKENS)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


@pytest.mark.parametrize("family", ["mamba", "qwen3_next", "bart", "no_such"])
def test_what_is_no_list_of_blocks_with_keys_and_values_is_refused(family: str, tmp_path: Path) -> None:
    path = tiny_models.make_model(tmp_path / "model")
    checkpoint = open_checkpoint(str(path))
    checkpoint.config["model_type"] = family
    with pytest.raises(BadInput, match=f"models of the family '{family}' are not supported"):
        TorchSpan(checkpoint, Span(0, 4))


def test_the_document_lists_what_is_tested() -> None:
    text = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    assert [name for name in MODELS if f"`{name.split(' ')[0]}`" not in text] == []
