"""What quantization costs is told as it is."""

from pathlib import Path

import numpy as np
import pytest
from chained_spans import reference_logits, reference_model

from gridnode.core.models import QuantFormat
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.quality import WINDOW_TOKENS, QualityTest, bundled_text
from gridnode.engine.select import prepare_text
from gridnode.engine.text import load_text_codec

# Two pieces, the second a short one.
TOKEN_IDS = [int(n) for n in np.random.default_rng(0).integers(0, 250, WINDOW_TOKENS + 90)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def quality_test(path: Path, token_ids: list[int], scratch: Path) -> QualityTest:
    return QualityTest(open_checkpoint(str(path)), str(path), token_ids, scratch=scratch, num_threads=1)


def test_perplexity_is_that_of_transformers(tiny_llama: Path, tmp_path: Path) -> None:
    model = reference_model(tiny_llama)
    surprises = []
    for piece in (TOKEN_IDS[:WINDOW_TOKENS], TOKEN_IDS[WINDOW_TOKENS:]):
        logits = reference_logits(model, np.array([piece]))[0, :-1].astype(np.float64)
        log_sums = np.log(np.exp(logits).sum(axis=-1))
        surprises += list(log_sums - logits[np.arange(len(piece) - 1), piece[1:]])
    test = quality_test(tiny_llama, TOKEN_IDS, tmp_path)
    assert test.exact.perplexity == pytest.approx(np.exp(np.mean(surprises)), rel=1e-3)
    assert (test.exact.kl_divergence, test.exact.same_choice) == (0.0, 1.0)


def test_more_bits_are_closer_to_the_unquantized_model(tiny_llama: Path, tmp_path: Path) -> None:
    test = quality_test(tiny_llama, TOKEN_IDS, tmp_path)
    int8 = test.measure(QuantFormat.INT8, executor="torch")
    int4 = test.measure(QuantFormat.INT4, executor="torch")
    fast = test.measure(QuantFormat.INT8, executor="onnx", kv="int8")
    assert 0 < int8.kl_divergence < int4.kl_divergence
    assert int4.same_choice < int8.same_choice < 1
    assert (int8.executor, fast.executor, fast.kv) == ("torch", "onnx", "int8")
    assert fast.kl_divergence > int8.kl_divergence  # activations, keys and values are in 8 bits, too


def test_the_text_is_there_and_long_enough() -> None:
    text = bundled_text()
    assert text.startswith("CHAPTER V\n\n                    Advice from a Caterpillar")
    assert len(text) > 30_000


@pytest.mark.smollm
def test_what_quantization_costs_the_demo_model(demo_model_path: Path, tmp_path: Path) -> None:
    text_dir = prepare_text(open_checkpoint(str(demo_model_path)))
    assert text_dir is not None
    token_ids = load_text_codec(text_dir).encode(bundled_text())[:WINDOW_TOKENS]
    test = quality_test(demo_model_path, token_ids, tmp_path)
    for quantization, bound in ((QuantFormat.INT8, 0.02), (QuantFormat.INT4, 0.03)):
        found = test.measure(quantization)
        change = found.perplexity / test.exact.perplexity - 1
        print(f"{quantization}: perplexity {change:+.2%}, KL divergence {found.kl_divergence:.4f}")
        assert abs(change) < bound
