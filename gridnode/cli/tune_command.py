"""`gridnode tune`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gridnode.cli.options import ApiOption, JsonOption, LogLevel, LogLevelOption
from gridnode.config import DEFAULT_API

_WHAT = "What is trained"
_HOW = "How"


class Method(StrEnum):
    """What is added to the model, and trained."""

    LORA = "lora"
    PROMPT = "prompt"
    DEEP_PROMPT = "deep-prompt"


def tune(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="JSON, one example a line: messages, prompt and completion, or text.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(metavar="PATH_OR_HUB_ID", help="The model that the swarm serves.", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIRECTORY", help="For the result, checkpoints and the curve of losses.")
    ] = Path("tuned"),
    method: Annotated[
        Method,
        typer.Option(
            help="LoRA matrices, vectors before the text, or before every block.", rich_help_panel=_WHAT
        ),
    ] = Method.LORA,
    rank: Annotated[int, typer.Option(min=1, help="Of LoRA matrices.", rich_help_panel=_WHAT)] = 8,
    vectors: Annotated[int, typer.Option(min=1, help="Before the text.", rich_help_panel=_WHAT)] = 16,
    epochs: Annotated[
        int, typer.Option(min=1, help="How often every example is seen.", rich_help_panel=_HOW)
    ] = 3,
    batch: Annotated[int, typer.Option(min=1, help="Examples of one step.", rich_help_panel=_HOW)] = 8,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Of AdamW.", rich_help_panel=_HOW)] = 1e-3,
    max_tokens: Annotated[
        int,
        typer.Option(
            min=2,
            help="Longer examples are cut. Where hidden states are 4096 wide, 256 to 512 fit into a message.",
            rich_help_panel=_HOW,
        ),
    ] = 256,
    seed: Annotated[int, typer.Option(help="Of the first values, and the order.", rich_help_panel=_HOW)] = 0,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the last checkpoint in DIRECTORY.", rich_help_panel=_HOW),
    ] = False,
    as_json: JsonOption = False,
    api: ApiOption = DEFAULT_API,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Train an adapter or prompts through the swarm of the node on this computer. The weights stay here.

    Nodes compute gradients with 'gridnode up --executor torch'. The result is an adapter in the format of
    PEFT, or prompts for gridnode.PromptTuning.

    [bold]Examples[/]

      gridnode tune chats.jsonl --model HuggingFaceTB/SmolLM2-135M-Instruct --out persona
      gridnode tune chats.jsonl --model model.gguf --method deep-prompt --vectors 8 --resume
    """
    from gridnode.cli.tuning import Tuning, run_tuning
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    wanted = Tuning(
        data=data,
        model=model,
        out=out,
        method=method.value,
        rank=rank,
        num_vectors=vectors,
        epochs=epochs,
        batch_size=batch,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        seed=seed,
        resume=resume,
    )
    run_tuning(wanted, api, as_json=as_json)
