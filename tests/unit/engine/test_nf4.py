"""Weights in nf4, on the CPU: bitsandbytes has the functions of graphics cards for it, too."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from chained_spans import Chain

from gridnode.core.models import DeviceName, QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.nf4_linear import Nf4Linear, check_nf4
from gridnode.engine.requests import EngineConfig
from gridnode.engine.select import build_executor, choose_executor
from gridnode.engine.torch_span import TorchSpan
from gridnode.errors import BadInput

CPU = torch.device("cpu")
TOKENS = np.random.default_rng(0).integers(0, 250, (1, 40))
needs_package = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="the extra nf4 is not installed"
)


def config(path: Path, **options: object) -> EngineConfig:
    return EngineConfig(
        location=str(path),
        span=Span(0, 4),
        quantization=QuantFormat.NF4,
        **options,  # type: ignore[arg-type]
    )


@needs_package
def test_products_and_gradients_are_those_of_weights_near_the_given_ones() -> None:
    weight = torch.randn(48, 128, generator=torch.Generator().manual_seed(0))
    bias = torch.randn(48, generator=torch.Generator().manual_seed(2))
    layer = Nf4Linear(weight, bias, CPU)
    restored = (layer(torch.eye(128)) - bias).T
    assert 0.05 < float((restored - weight).norm() / weight.norm()) < 0.12
    hidden = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(1)).requires_grad_()
    result = layer(hidden)
    assert torch.allclose(result, torch.nn.functional.linear(hidden, restored, bias), atol=1e-4)
    result.sum().backward()
    assert hidden.grad is not None
    assert torch.allclose(hidden.grad, restored.sum(dim=0).expand_as(hidden), atol=1e-4)


@needs_package
def test_a_model_computes_the_same_in_nf4_when_it_is_cut(tiny_llama: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_llama))

    def logits(quantization: QuantFormat, cut: list[Span]) -> np.ndarray:
        spans = [TorchSpan(checkpoint, span, quantization=quantization) for span in cut]
        return Chain(spans).run(TOKENS, 0)

    whole = logits(QuantFormat.NF4, [Span(0, 4)])
    assert np.abs(logits(QuantFormat.NF4, [Span(0, 1), Span(1, 4)]) - whole).max() < 1e-4
    assert np.abs(logits(QuantFormat.NONE, [Span(0, 4)]) - whole).max() > 0.1


@needs_package
def test_nf4_goes_to_the_reference(tiny_llama: Path) -> None:
    name, _ = build_executor(
        config(tiny_llama, num_threads=1), open_checkpoint(str(tiny_llama)), on_block=lambda: None
    )
    assert name == "torch"


def test_the_fast_path_says_that_it_has_no_nf4(tiny_llama: Path) -> None:
    with pytest.raises(BadInput, match=r"onnx cannot run .*: it has no products of nf4"):
        choose_executor(config(tiny_llama, executor="onnx"), open_checkpoint(str(tiny_llama)))


def test_without_the_package_the_message_says_how_to_get_it(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"bitsandbytes.*pip install 'gridnode\[nf4\]'"):
        build_executor(config(tiny_llama), open_checkpoint(str(tiny_llama)), on_block=lambda: None)


@pytest.mark.parametrize("device", ["mps", "xpu"])
def test_devices_without_it_are_named(device: DeviceName) -> None:
    with pytest.raises(BadInput, match=f"not for {device}; use int4"):
        check_nf4(device)
