"""Choosing the executor, the data type and the tokenizer of a worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gridnode.core.models import QuantFormat
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import SpanExecutor
from gridnode.engine.gguf_checkpoint import GgufCheckpoint
from gridnode.engine.gguf_text import export_text
from gridnode.engine.requests import EngineConfig
from gridnode.engine.torch_span import TorchSpan
from gridnode.errors import BadInput


def choose_dtype(config: EngineConfig, checkpoint: Checkpoint) -> str:
    """Return `float32` or `bfloat16`.

    `auto` keeps unquantized half-precision weights in bfloat16, which halves their memory. Beside
    quantized weights the rest is small, and float32 is as fast on a CPU.
    """
    if config.dtype != "auto":
        return config.dtype
    stored = str(checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype") or "float32")
    is_half = stored in ("bfloat16", "float16") and config.quantization is QuantFormat.NONE
    return "bfloat16" if is_half else "float32"


def build_executor(
    config: EngineConfig, checkpoint: Checkpoint, *, on_block: Callable[[], None]
) -> tuple[str, SpanExecutor]:
    """Return the name of the executor for `config`, and the executor with its span loaded.

    Raises:
        BadInput: it cannot run this model here.
        BadCheckpoint: a tensor is missing or damaged.
    """
    if config.device != "cpu":
        raise BadInput(f"device {config.device!r} is not supported yet; use cpu")
    if config.executor == "onnx":
        raise BadInput("the executor 'onnx' is not part of this version; use auto or torch")
    executor = TorchSpan(
        checkpoint,
        config.span,
        dtype=choose_dtype(config, checkpoint),
        quantization=config.quantization,
        on_block=on_block,
    )
    return "torch", executor


def prepare_text(checkpoint: Checkpoint) -> Path | None:
    """Return the directory with the tokenizer's files, exporting them from a GGUF file first."""
    if isinstance(checkpoint, GgufCheckpoint):
        return export_text(checkpoint)
    directory = checkpoint.text_dir
    return directory if directory is not None and (directory / "tokenizer.json").exists() else None
