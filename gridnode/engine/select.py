"""Choosing the executor, the data type and the tokenizer of a worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from gridnode.core.models import QuantFormat
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.devices import check_device, half_dtype
from gridnode.engine.executor import SpanExecutor
from gridnode.engine.gguf_checkpoint import GgufCheckpoint
from gridnode.engine.gguf_text import export_text
from gridnode.engine.huge_pages import use_huge_pages
from gridnode.engine.onnx_blocks import unsupported_reason
from gridnode.engine.requests import EngineConfig
from gridnode.errors import BadInput


def choose_executor(config: EngineConfig, checkpoint: Checkpoint) -> Literal["torch", "onnx"]:
    """Return what computes.

    `auto` takes the fast path for quantized weights of a family that it knows; unquantized ones go to
    the reference, which computes them as `transformers` does.

    Raises:
        BadInput: what was asked for cannot run this model here.
    """
    if config.device == "cpu" and config.dtype == "float16":
        raise BadInput("processors do not compute in float16; use bfloat16, float32 or auto")
    reason = unsupported_reason(checkpoint) or ("it adds no adapters" if config.adapters else None)
    if config.dtype not in ("auto", "float32"):
        reason = "it computes in float32 only"
    if config.device != "cpu":
        reason = f"it computes on cpu only, not on {config.device}"
    if config.quantization is QuantFormat.NF4:
        reason = "it has no products of nf4"
    if config.executor == "onnx" and reason is not None:
        raise BadInput(
            f"the executor onnx cannot run {checkpoint.model_id.name}: {reason}; use auto or torch"
        )
    is_fast = reason is None and config.quantization is not QuantFormat.NONE
    chosen: Literal["torch", "onnx"]
    chosen = ("onnx" if is_fast else "torch") if config.executor == "auto" else config.executor
    if config.kv == "int8" and chosen == "torch":
        raise BadInput(
            f"int8 keys and values need the executor onnx, and {checkpoint.model_id.name} runs on torch: "
            f"{reason or 'choose it, or quantized weights'}; leave kv at auto"
        )
    return chosen


def choose_dtype(config: EngineConfig, checkpoint: Checkpoint) -> str:
    """Return `float32`, `bfloat16` or `float16`.

    `auto` keeps unquantized half-precision weights in bfloat16, which halves their memory. Beside
    quantized weights the rest is small, and float32 is as fast on a CPU. Other devices compute in the 16
    bits that suit them.
    """
    if config.dtype != "auto":
        return config.dtype
    if config.device != "cpu":
        return half_dtype(config.device)
    stored = str(checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype") or "float32")
    is_half = stored in ("bfloat16", "float16") and config.quantization is QuantFormat.NONE
    return "bfloat16" if is_half and config.executor != "onnx" else "float32"


def build_executor(
    config: EngineConfig, checkpoint: Checkpoint, *, on_block: Callable[[], None]
) -> tuple[str, SpanExecutor]:
    """Return the name of the executor for `config`, and the executor with its span loaded.

    Raises:
        BadInput: it cannot run this model here.
        BadCheckpoint: a tensor is missing or damaged.
    """
    name = choose_executor(config, checkpoint)
    # Only the one that computes is imported: torch alone takes seconds and 200 MB.
    build = _build_onnx if name == "onnx" else _build_torch
    span = build(config, checkpoint, config.num_threads or os.cpu_count() or 1, on_block)
    use_huge_pages()
    return name, span


def _build_onnx(
    config: EngineConfig, checkpoint: Checkpoint, num_threads: int, on_block: Callable[[], None]
) -> SpanExecutor:
    from gridnode.engine.onnx_span import OnnxSpan

    return OnnxSpan(
        checkpoint,
        config.span,
        quantization=config.quantization,
        kv=config.kv,
        max_positions=min(checkpoint.facts.max_positions, config.cache_tokens),
        num_threads=num_threads,
        on_block=on_block,
    )


def _build_torch(
    config: EngineConfig, checkpoint: Checkpoint, num_threads: int, on_block: Callable[[], None]
) -> SpanExecutor:
    import torch

    from gridnode.engine.nf4_linear import check_nf4
    from gridnode.engine.torch_span import TorchSpan

    torch.set_num_threads(num_threads)
    check_device(config.device)
    if config.quantization is QuantFormat.NF4:
        check_nf4(config.device)
    return TorchSpan(
        checkpoint,
        config.span,
        dtype=choose_dtype(config, checkpoint),
        device=config.device,
        quantization=config.quantization,
        on_block=on_block,
    )


def prepare_text(checkpoint: Checkpoint) -> Path | None:
    """Return the directory with the tokenizer's files, exporting them from a GGUF file first."""
    if isinstance(checkpoint, GgufCheckpoint):
        return export_text(checkpoint)
    directory = checkpoint.text_dir
    return directory if directory is not None and (directory / "tokenizer.json").exists() else None
