"""`gridnode rm`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gridnode.cli.options import JsonOption
from gridnode.cli.pull_command import HubArgument
from gridnode.errors import BadInput, GridError


def rm(
    model: HubArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a model of the Hub from this computer's disk. One that a running node uses stays.

    [bold]Examples[/]

      gridnode rm HuggingFaceTB/SmolLM2-135M-Instruct
    """
    from gridnode.cli.json_records import RemovedModel
    from gridnode.cli.showing import print_json, stderr
    from gridnode.engine.hub_cache import cached_models, remove_cached
    from gridnode.units import format_bytes

    found = next((each for each in cached_models() if each.name == model), None)
    if found is None:
        raise BadInput(f"no model {model!r} of the Hub is on this disk; 'gridnode list' shows those that are")
    if not yes:
        size = format_bytes(found.stored_bytes + found.quantized_bytes)
        _ask(f"Remove {model} ({size}), also for other programs?")
    freed_bytes = remove_cached(model)
    stderr().print(f"removed {model}, {format_bytes(freed_bytes)} freed", markup=False)
    if as_json:
        print_json(RemovedModel(name=model, freed_bytes=freed_bytes))


def _ask(question: str) -> None:
    if not _is_somebody_here():
        raise BadInput("nobody is here to be asked; say --yes to remove it")
    if not typer.confirm(question, err=True):
        raise GridError("nothing was removed")


def _is_somebody_here() -> bool:
    return sys.stdin.isatty()
