"""Torch's kernel for 4 bits gives what the reference gives; on CPUs, which have it for this test only."""

import numpy as np
import torch

from gridnode.core.models import QuantFormat
from gridnode.engine.int4_linear import Int4Linear, has_kernel
from gridnode.engine.quantization import quantize
from gridnode.engine.quantized_linear import QuantizedLinear

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
WEIGHT = np.random.default_rng(0).normal(0.3, 1.0, (64, 256)).astype(np.float32)


def test_products_and_gradients_equal_the_reference_within_bfloat16() -> None:
    weight = quantize(WEIGHT, QuantFormat.INT4)
    bias = torch.randn(64, generator=torch.Generator().manual_seed(2))
    hidden = torch.randn(2, 5, 256, generator=torch.Generator().manual_seed(1))
    results, gradients = [], []
    for layer in (QuantizedLinear(weight, bias), Int4Linear(weight, bias, CPU)):
        given = hidden.clone().requires_grad_()
        result = layer(given)
        result.square().sum().backward()
        assert given.grad is not None
        results.append(result.detach())
        gradients.append(given.grad)
    for expected, found in (results, gradients):
        assert found.shape == expected.shape
        assert float((found - expected).abs().max() / expected.abs().max()) < 0.02


def test_only_what_the_kernel_takes_goes_to_it() -> None:
    assert has_kernel(quantize(WEIGHT, QuantFormat.INT4), CUDA)
    assert not has_kernel(quantize(WEIGHT, QuantFormat.INT4), CPU)  # OnnxSpan is faster
    assert not has_kernel(quantize(WEIGHT, QuantFormat.INT8), CUDA)
    assert not has_kernel(quantize(WEIGHT[:50], QuantFormat.INT4), CUDA)
    assert not has_kernel(quantize(WEIGHT[:, :200], QuantFormat.INT4), CUDA)
