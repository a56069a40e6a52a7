"""Fetching a model before it is served: what is missing, whether it fits, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from gridnode.cli.json_records import PulledModel
from gridnode.cli.showing import printable, stderr
from gridnode.core.spans import Span
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.hub_checkpoint import HubModel, find_hub_model
from gridnode.engine.hub_download import WeightFile, check_room, fetch, free_disk_bytes
from gridnode.engine.model_use import is_hub_id, using
from gridnode.errors import BadInput
from gridnode.units import format_bytes


def pull_model(repository: str, span: Span | None) -> PulledModel:
    """Fetch the weight files of a repository, or those of some blocks of it.

    Raises:
        BadInput: it is not a Hub id, or the model has no such blocks.
        BadCheckpoint: the repository cannot be read.
        NoCapacity: the disk has no room for it.
    """
    if not is_hub_id(repository):
        raise BadInput(f"{repository!r} is not a Hub id like HuggingFaceTB/SmolLM2-135M-Instruct")
    console = stderr()
    with using(repository):
        hub = find_hub_model(repository)
        files = [hub.weight_files[name] for name in files_of(hub.checkpoint, span)]
        before = sum(file.fetched_bytes() for file in files)
        total = sum(file.size_bytes for file in files)
        _tell(console, hub, files, missing_bytes=total - before)
        check_room(total - before, directory=Path(constants.HF_HUB_CACHE).absolute())
        _fetch_all(console, files, before_bytes=before, total_bytes=total)
    return PulledModel(
        name=repository,
        commit=hub.directory.name,
        directory=str(hub.directory),
        weight_files=len(files),
        total_bytes=total,
        fetched_bytes=total - before,
    )


def files_of(checkpoint: Checkpoint, span: Span | None) -> list[str]:
    """Return the names of the weight files of `span` and of what belongs to its ends; None is all.

    Raises:
        BadInput: the model has no such blocks.
    """
    num_blocks = checkpoint.facts.num_blocks
    if span is None:
        return sorted({entry.weight_file for entry in checkpoint.tensors.values()})
    if span.end > num_blocks:
        raise BadInput(f"blocks {span} asked for, {checkpoint.model_id.name} has blocks 0:{num_blocks}")
    names = [name for block_index in span for name in checkpoint.block_names(block_index)]
    names += checkpoint.start_names if span.start == 0 else []
    names += [*checkpoint.end_names, checkpoint.head_name] if span.end == num_blocks else []
    return sorted({checkpoint.entry(name).weight_file for name in names})


def _tell(console: Console, hub: HubModel, files: Sequence[WeightFile], *, missing_bytes: int) -> None:
    name, facts = hub.checkpoint.model_id.name, hub.checkpoint.facts
    total = format_bytes(sum(file.size_bytes for file in files))
    directory = Path(constants.HF_HUB_CACHE).absolute()
    lines = [
        f"model   {name}  ({facts.family}, {facts.num_blocks} blocks)",
        f"source  {constants.ENDPOINT}/{name}  commit {hub.directory.name[:8]}",
        f"size    {total} in {len(files)} files, {format_bytes(missing_bytes)} of it not here yet",
        f"disk    {directory}  {format_bytes(free_disk_bytes(directory))} free",
    ]
    for line in lines:
        console.print(printable(line), markup=False, soft_wrap=True)


def _fetch_all(console: Console, files: Sequence[WeightFile], *, before_bytes: int, total_bytes: int) -> None:
    """Fetch what is missing, with a bar on a terminal and a line per file elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    missing = [file for file in files if not file.cached()]
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total_bytes, completed=before_bytes)
        for number, file in enumerate(missing, start=1):
            progress.update(bar, description=f"file {number}/{len(missing)}")
            fetch(file, on_bytes=lambda count: progress.advance(bar, count))
            if not console.is_terminal:
                console.print(
                    f"fetched {printable(file.name)} ({format_bytes(file.size_bytes)})", markup=False
                )
    console.print("done" if missing else "everything is here already")
