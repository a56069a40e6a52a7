"""`gridnode bench`: what this computer, and a model in few bits, can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from gridnode.cli.options import JsonOption
from gridnode.cli.show_command import ModelArgument


def quality(
    model: ModelArgument,
    tokens: Annotated[
        int, typer.Option(min=64, help="Tokens of the text to read; more make the figures surer.")
    ] = 2048,
    as_json: JsonOption = False,
) -> None:
    """Measure what int8, int4, int4-g128 and nf4 cost in quality: perplexity and KL divergence.

    The model reads chapters of "Alice's Adventures in Wonderland", unquantized and then quantized, on this
    computer: it takes the memory of the whole model in float32, and minutes.

    [bold]Examples[/]

      gridnode bench quality HuggingFaceTB/SmolLM2-135M-Instruct
      gridnode bench quality ./SmolLM2.gguf --tokens 8192 --json
    """
    from gridnode.cli.benching import bench_quality

    bench_quality(model, num_tokens=tokens, as_json=as_json)


COMMANDS: Mapping[str, Callable[..., None]] = {"quality": quality}
