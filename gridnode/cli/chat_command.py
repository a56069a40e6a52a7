"""`gridnode chat`."""

from __future__ import annotations

from typing import Annotated

import typer

from gridnode.cli.options import ApiOption
from gridnode.config import DEFAULT_API


def chat(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of the model; leave it out if the swarm has one.")
    ] = "",
    system: Annotated[str, typer.Option(help="Instruction before the conversation.")] = "",
    api: ApiOption = DEFAULT_API,
) -> None:
    """Talk to the swarm in the terminal. Esc cancels an answer, /help lists the commands.

    [bold]Examples[/]

      gridnode chat
      gridnode chat SmolLM2-135M-Instruct --system "Answer briefly."
    """
    import asyncio

    from gridnode.control.client import ControlClient
    from gridnode_dashboard.chat_app import ChatApp
    from gridnode_dashboard.conversation import Conversation

    async def talk() -> None:
        async with ControlClient(api) as client:
            await ChatApp(client, Conversation(model=model, system=system)).run_async()

    asyncio.run(talk())
