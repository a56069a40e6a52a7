"""Options of a question: how long its answer is, how its tokens are chosen, and who computes it."""

from __future__ import annotations

from typing import Annotated

import typer

_ANSWER = "The answer"
_CHOICE = "Choosing tokens"
_NODES = "Choosing nodes (by public name, or the beginning of an id; may be repeated)"

MaxTokensOption = Annotated[
    int | None, typer.Option(min=1, help="New tokens at most.", rich_help_panel=_ANSWER)
]

StopOption = Annotated[
    list[str] | None,
    typer.Option(help="Text that ends the answer; may be repeated.", rich_help_panel=_ANSWER),
]

SystemOption = Annotated[
    str | None, typer.Option(help="Instruction before the conversation.", rich_help_panel=_ANSWER)
]

RawOption = Annotated[
    bool,
    typer.Option("--raw", help="Continue the text as it stands: no chat template.", rich_help_panel=_ANSWER),
]

AdapterOption = Annotated[
    str,
    typer.Option(
        help="LoRA adapter; only nodes that host it compute.", show_default=False, rich_help_panel=_ANSWER
    ),
]

TemperatureOption = Annotated[
    float | None,
    typer.Option(help="0 takes the most probable token, higher is freer.", rich_help_panel=_CHOICE),
]

TopKOption = Annotated[
    int | None, typer.Option(help="Keep the K most probable tokens.", rich_help_panel=_CHOICE)
]

TopPOption = Annotated[
    float | None, typer.Option(help="Keep tokens up to this probability.", rich_help_panel=_CHOICE)
]

RepetitionPenaltyOption = Annotated[
    float | None, typer.Option(help="Above 1 avoids repeating.", rich_help_panel=_CHOICE)
]

SeedOption = Annotated[
    int | None,
    typer.Option(help="Same seed, same answer; random if left out.", rich_help_panel=_CHOICE),
]

RouteOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NODE", help="The nodes of the route, in their order.", rich_help_panel=_NODES),
]

AllowOption = Annotated[
    list[str] | None, typer.Option(metavar="NODE", help="Use these nodes only.", rich_help_panel=_NODES)
]

BlockOption = Annotated[
    list[str] | None, typer.Option(metavar="NODE", help="Do not use these nodes.", rich_help_panel=_NODES)
]

PrivateOption = Annotated[
    bool,
    typer.Option(
        "--private",
        help="Compute the first and the last block at home, on this node or those of --home, or refuse.",
        rich_help_panel=_NODES,
    ),
]

HomeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID",
        help="A node of yours, by at least 16 characters of its id; for --private.",
        rich_help_panel=_NODES,
    ),
]
