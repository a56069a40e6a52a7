"""What the files of published models leave out is what `transformers` takes for it."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig

from gridnode.engine.checkpoint import with_defaults
from gridnode.engine.onnx_attention import Attention, activation, attention_of
from gridnode.engine.onnx_blocks import FAMILIES


def kinds(config: dict[str, Any]) -> list[tuple[Attention, dict[str, Any]]]:
    """Return the attention of a few blocks, and their rotary parameters that change something."""
    found = [attention_of(config, block_index, "auto") for block_index in range(12)]
    neutral = {"partial_rotary_factor": 1.0}
    return [
        (
            Attention(window=each.window, rotary=None, softcap=each.softcap, scale=each.scale, kv=each.kv),
            {name: value for name, value in each.rotary or () if neutral.get(name) != value},
        )
        for each in found
    ]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_values_that_are_left_out_are_those_of_transformers(family: str) -> None:
    usual = AutoConfig.for_model(family).to_dict()
    bare = with_defaults({"model_type": family})
    assert kinds(bare) == kinds(usual)
    assert activation(bare) == activation(usual)
    assert bare.get("final_logit_softcapping") == usual.get("final_logit_softcapping")
    # Older families are always written out; those that are not must be right.
    for name in ("max_position_embeddings", "num_attention_heads", "num_key_value_heads", "head_dim"):
        assert bare.get(name, usual.get(name)) == usual.get(name)


def test_a_published_gemma_3_has_two_kinds_of_rotary_embeddings() -> None:
    """As its file says it: a scaling, and nothing of what it scales."""
    config = with_defaults(
        {
            "model_type": "gemma3_text",
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        }
    )
    near, far = attention_of(config, 0, "auto"), attention_of(config, 5, "auto")
    assert (near.window, far.window) == (1024, None)
    assert dict(near.rotary or ()) == {"rope_type": "default", "rope_theta": 10000.0}
    assert dict(far.rotary or ()) == {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}
    assert config["max_position_embeddings"] == 131072
