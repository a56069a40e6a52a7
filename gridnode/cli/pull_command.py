"""`gridnode pull`."""

from __future__ import annotations

from typing import Annotated

import typer

from gridnode.cli.options import JsonOption, option_reader
from gridnode.core.spans import Span, parse_span

HubArgument = Annotated[
    str, typer.Argument(metavar="HUB_ID", help="Like HuggingFaceTB/SmolLM2-135M-Instruct.")
]


def pull(
    model: HubArgument,
    blocks: Annotated[
        Span | None,
        typer.Option(
            parser=option_reader(parse_span),
            metavar="START:END",
            help="Fetch the files that hold these blocks only.",
            show_default="all",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model from the Hub into the shared Hugging Face cache. What was broken off is resumed.

    A node fetches the files of its own blocks by itself; this is for doing it beforehand.

    [bold]Examples[/]

      gridnode pull HuggingFaceTB/SmolLM2-135M-Instruct
      gridnode pull Qwen/Qwen3-8B --blocks 0:18
    """
    from gridnode.cli.pulling import pull_model
    from gridnode.cli.showing import print_json

    record = pull_model(model, blocks)
    if as_json:
        print_json(record)
