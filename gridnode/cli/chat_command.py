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

    If no node runs here, it offers to start one, which then runs as long as the chat.

    [bold]Examples[/]

      gridnode chat
      gridnode chat SmolLM2-135M-Instruct --system "Answer briefly."
    """
    import asyncio

    from gridnode.cli.showing import stderr
    from gridnode.cli.start_offers import start_offers
    from gridnode.cli.terminal_check import need_terminal
    from gridnode.control.client import ControlClient
    from gridnode.paths import state_dir
    from gridnode_dashboard.chat_app import ChatApp
    from gridnode_dashboard.conversation import Conversation
    from gridnode_dashboard.input_history import InputHistory
    from gridnode_dashboard.starting import NodeStarter

    need_terminal("gridnode run QUESTION")

    async def talk() -> None:
        history = InputHistory(state_dir() / "chat-history")
        async with ControlClient(api) as client, NodeStarter(start_offers(model, api)) as starter:
            conversation = Conversation(model=model, system=system)
            await ChatApp(client, conversation, history=history, starter=starter).run_async()
            if starter.is_running:
                stderr().print("Stopping the node that the chat started ...")

    asyncio.run(talk())
