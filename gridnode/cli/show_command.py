"""`gridnode show`."""

from __future__ import annotations

from typing import Annotated

import typer

from gridnode.cli.options import JsonOption

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Directory of safetensors, GGUF file or Hub id.")
]


def show(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Describe a model: its shape, the memory it takes in each quantization, its licence.

    Of a model of the Hub only the small files are fetched.

    [bold]Examples[/]

      gridnode show HuggingFaceTB/SmolLM2-135M-Instruct
      gridnode show ./SmolLM2.gguf --json
    """
    from gridnode.cli.disk_models import model_table, shown
    from gridnode.cli.showing import print_json, stdout
    from gridnode.engine.locate import open_checkpoint

    record = shown(open_checkpoint(model))
    if as_json:
        print_json(record)
    else:
        stdout().print(model_table(record), soft_wrap=True)
