"""The work of `gridnode bench`."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from gridnode.cli.json_records import BenchedQualities, BenchedQuality
from gridnode.cli.showing import plain_table, print_json, stderr, stdout
from gridnode.core.models import ExecutorName, KvFormat, QuantFormat
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.onnx_blocks import unsupported_reason
from gridnode.engine.quality import Quality, QualityTest, bundled_text
from gridnode.engine.select import prepare_text
from gridnode.engine.text import load_text_codec
from gridnode.errors import BadCheckpoint, BadInput

# Of the figures beside the unquantized ones; those of less would be chance.
_MIN_TOKENS = 2


def bench_quality(model: str, *, num_tokens: int, as_json: bool) -> None:
    """Print what quantization costs `model`.

    Raises:
        BadCheckpoint: there is no such model, or it has no tokenizer.
        BadInput: it cannot be computed here.
    """
    checkpoint = open_checkpoint(model)
    text_dir = prepare_text(checkpoint)
    if text_dir is None:
        raise BadCheckpoint(f"{model} has no tokenizer.json; fetch it with its tokenizer")
    token_ids = load_text_codec(text_dir).encode(bundled_text())[:num_tokens]
    if len(token_ids) < _MIN_TOKENS:
        raise BadInput(f"the text is {len(token_ids)} tokens of {model}: nothing to predict")
    results = []
    for found in _measured(checkpoint, model, token_ids):
        results.append(found)
        stderr().print(f"  {_name(found)}: perplexity {found.perplexity:.3f}")
    record = BenchedQualities(
        model=checkpoint.model_id.name,
        num_tokens=len(token_ids),
        results=tuple(_record(found, results[0]) for found in results),
    )
    if as_json:
        print_json(record)
    else:
        stdout().print(quality_table(record))


def quality_table(benched: BenchedQualities) -> Table:
    """Return what `gridnode bench quality` prints."""
    numbers = ("PERPLEXITY", "CHANGE", "KL", "SAME CHOICE")
    table = plain_table("WEIGHTS", "KEYS, VALUES", "EXECUTOR", *numbers, right=frozenset(numbers))
    for result in benched.results:
        is_reference = result.quantization == "none"
        table.add_row(
            result.quantization,
            "float32" if result.kv == "auto" else result.kv,
            result.executor,
            f"{result.perplexity:.3f}",
            "" if is_reference else f"{result.perplexity_change:+.2%}",
            "" if is_reference else f"{result.kl_divergence:.4f}",
            "" if is_reference else f"{result.same_choice:.1%}",
        )
    return table


def _measured(checkpoint: Checkpoint, location: str, token_ids: list[int]) -> Iterator[Quality]:
    """Yield the figures of every way to compute the model, the unquantized one first."""
    stderr().print(f"{checkpoint.model_id.name} reads {len(token_ids)} tokens, unquantized first:")
    with tempfile.TemporaryDirectory(prefix="gridnode-quality-") as scratch:
        test = QualityTest(checkpoint, location, token_ids, scratch=Path(scratch))
        yield test.exact
        for quantization in (QuantFormat.INT8, QuantFormat.INT4, QuantFormat.INT4_G128):
            for executor, kv in _ways(checkpoint):
                yield test.measure(quantization, executor=executor, kv=kv)
        if importlib.util.find_spec("bitsandbytes") is not None:
            yield test.measure(QuantFormat.NF4)


def _ways(checkpoint: Checkpoint) -> list[tuple[ExecutorName, KvFormat]]:
    if unsupported_reason(checkpoint) is not None:
        return [("torch", "auto")]
    return [("torch", "auto"), ("onnx", "auto"), ("onnx", "int8")]


def _name(found: Quality) -> str:
    kv = ", keys and values int8" if found.kv == "int8" else ""
    return f"{found.quantization}{kv} ({found.executor})"


def _record(found: Quality, exact: Quality) -> BenchedQuality:
    return BenchedQuality(
        quantization=str(found.quantization),
        kv=found.kv,
        executor=found.executor,
        perplexity=found.perplexity,
        perplexity_change=found.perplexity / exact.perplexity - 1,
        kl_divergence=found.kl_divergence,
        same_choice=found.same_choice,
    )
