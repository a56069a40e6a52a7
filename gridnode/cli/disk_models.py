"""Models on disk, for people and for programs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gridnode.cli.json_records import ListedModel, ListedModels, ShownModel
from gridnode.cli.showing import plain_table, printable
from gridnode.core.models import QuantFormat
from gridnode.core.placement import block_bytes
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.hub_cache import CachedModel
from gridnode.units import format_bytes

# As placement plans: what is not quantized may be computed in float32.
_BYTES_PER_VALUE = 4


def listed(models: Sequence[CachedModel]) -> ListedModels:
    """Return the record of `gridnode list`."""
    return ListedModels(
        models=tuple(
            ListedModel(
                name=model.name,
                stored_bytes=model.stored_bytes,
                quantized_bytes=model.quantized_bytes,
                weight_files=model.weight_files,
                total_weight_files=model.total_weight_files,
                complete=model.is_complete,
                last_used_s=model.last_used_s,
            )
            for model in models
        )
    )


def models_table(models: Sequence[CachedModel]) -> RenderableType:
    """Return one line per model."""
    if not models:
        return Text("No model of the Hub is on this disk. Fetch one: gridnode pull HUB_ID", style="yellow")
    table = plain_table("MODEL", "SIZE", "FILES", "QUANTIZED", "LAST USED")
    for model in models:
        total = "?" if model.total_weight_files is None else model.total_weight_files
        table.add_row(
            printable(model.name),
            format_bytes(model.stored_bytes),
            f"{model.weight_files}" if model.is_complete else f"{model.weight_files} of {total}",
            format_bytes(model.quantized_bytes) if model.quantized_bytes else "-",
            f"{datetime.fromtimestamp(model.last_used_s):%Y-%m-%d}",
        )
    return table


def shown(checkpoint: Checkpoint) -> ShownModel:
    """Return the record of `gridnode show`.

    Raises:
        BadCheckpoint: the checkpoint is not that of a decoder.
    """
    facts = checkpoint.facts
    blocks = {q: block_bytes(facts, q, bytes_per_value=_BYTES_PER_VALUE) for q in QuantFormat}
    is_tied = checkpoint.head_name == checkpoint.embed_name
    ends = facts.embed_params + (0 if is_tied else facts.head_params)
    return ShownModel(
        name=checkpoint.model_id.name,
        manifest=checkpoint.model_id.manifest,
        family=facts.family,
        num_blocks=facts.num_blocks,
        hidden_size=facts.hidden_size,
        num_heads=facts.num_heads,
        num_kv_heads=facts.num_kv_heads,
        vocab_size=facts.vocab_size,
        max_positions=facts.max_positions,
        num_params=sum(entry.num_params for entry in checkpoint.tensors.values()),
        block_bytes={str(q): size for q, size in blocks.items()},
        memory_bytes={
            str(q): size * facts.num_blocks + ends * _BYTES_PER_VALUE for q, size in blocks.items()
        },
        kv_bytes_per_token=facts.kv_bytes_per_token(facts.num_blocks, bytes_per_value=_BYTES_PER_VALUE),
        has_chat_template=checkpoint.has_chat_template,
        licence=checkpoint.licence,
    )


def model_table(model: ShownModel) -> RenderableType:
    """Return what `gridnode show` prints."""
    facts = Table.grid(padding=(0, 3, 0, 0))
    for name, value in (
        ("model", model.name),
        ("family", model.family),
        ("blocks", f"{model.num_blocks}, hidden size {model.hidden_size}"),
        ("heads", f"{model.num_heads}, {model.num_kv_heads} for keys and values"),
        ("weights", _count(model.num_params)),
        ("context", f"{model.max_positions} tokens, {format_bytes(model.kv_bytes_per_token)} of cache each"),
        ("vocabulary", f"{model.vocab_size} tokens"),
        ("chat template", "yes" if model.has_chat_template else "no: 'gridnode run --raw' continues text"),
        ("licence", model.licence or "not known"),
        ("manifest", model.manifest[:16]),
    ):
        facts.add_row(Text(name, style="bold"), Text(printable(value)))
    memory = plain_table("QUANTIZE", "ALL BLOCKS AND ENDS", "ONE BLOCK")
    for quantization, size in model.memory_bytes.items():
        memory.add_row(quantization, format_bytes(size), format_bytes(model.block_bytes[quantization]))
    return Group(facts, Text(""), memory)


def _count(number: int) -> str:
    for unit, factor in (("billion", 1e9), ("million", 1e6)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return str(number)
