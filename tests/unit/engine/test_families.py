"""Every family that TorchSpan takes gives the logits and the greedy tokens of transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from chained_spans import Chain, reference_greedy, reference_logits, reference_model

from gridnode.core.spans import Span
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.torch_span import FAMILIES, TorchSpan
from gridnode.errors import BadInput

SLIDING = {"sliding_window": 8}
OPTIONS: dict[str, dict[str, Any]] = {
    "mistral": SLIDING,
    "gemma2": SLIDING
    | {"layer_types": ["sliding_attention", "full_attention"] * 2, "query_pre_attn_scalar": 16},
    "gemma3_text": SLIDING
    | {"layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]},
    "phi3": {"pad_token_id": 0},
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
TOKENS = np.random.default_rng(0).integers(0, 250, (1, 24))


def check(path: Path) -> None:
    model = reference_model(path)
    checkpoint = open_checkpoint(str(path))
    executors = [TorchSpan(checkpoint, span) for span in (Span(0, 1), Span(1, 4))]
    expected = reference_logits(model, TOKENS)
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(Chain(executors).run(TOKENS, 0) - expected).max() / scale < 1e-4
    assert np.abs(Chain(executors).in_pieces(TOKENS, 5) - expected).max() / scale < 1e-3
    assert Chain(executors).greedy([1, 2, 3], 20) == reference_greedy(model, [1, 2, 3], 20)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_equals_transformers(family: str, tmp_path: Path) -> None:
    check(tiny_models.make_model(tmp_path / family, family, **OPTIONS.get(family, {})))


def test_scaled_rotary_frequencies_of_llama3_are_kept(tmp_path: Path) -> None:
    check(tiny_models.make_model(tmp_path / "llama3", rope_parameters=LLAMA3_ROPE))


def test_other_families_are_refused_with_the_list(tmp_path: Path) -> None:
    path = tiny_models.make_model(tmp_path / "bloom", "bloom", n_head=4, n_layer=4)
    with pytest.raises(BadInput, match=r"family 'bloom' are not supported yet; supported: .*llama"):
        TorchSpan(open_checkpoint(str(path)), Span(0, 4))
