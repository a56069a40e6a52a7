"""`gridnode score`."""

from __future__ import annotations

from typing import Annotated

import typer

from gridnode.cli.answer_options import (
    AllowOption,
    BlockOption,
    HomeOption,
    PrivateOption,
    RouteOption,
)
from gridnode.cli.options import ApiOption, JsonOption, LogLevel, LogLevelOption
from gridnode.config import DEFAULT_API


def score(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Text, one a line; '-' is standard input.")],
    model: Annotated[
        str, typer.Option(help="Name of the model; leave it out if the swarm has one.", show_default=False)
    ] = "",
    answers: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Take every line as a question, and tell how probable each of these answers is: yes,no.",
            show_default=False,
        ),
    ] = "",
    raw: Annotated[
        bool, typer.Option("--raw", help="With --answers: no chat template, the answer follows the line.")
    ] = False,
    route: RouteOption = None,
    allow: AllowOption = None,
    block: BlockOption = None,
    private: PrivateOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
    api: ApiOption = DEFAULT_API,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Tell how probable the model finds every line of a file, many lines at once.

    [bold]Examples[/]

      gridnode score sentences.txt
      gridnode score questions.txt --answers yes,no
      cut -f 2 table.tsv | gridnode score - --json
    """
    import asyncio

    from gridnode.cli.scoring import Judging, read_lines, score_lines
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    judging = Judging(
        model=model,
        answers=tuple(answer.strip() for answer in answers.split(",")) if answers else (),
        raw=raw,
        routing={
            "route": tuple(route or ()),
            "allow": tuple(allow or ()),
            "block": tuple(block or ()),
            "private": private,
            "home": tuple(home or ()),
        },
    )
    asyncio.run(score_lines(api, read_lines(file), judging, as_json=as_json))
