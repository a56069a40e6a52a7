"""`gridnode top`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridnode.cli.options import ApiOption
from gridnode.config import DEFAULT_API


def top(
    api: ApiOption = DEFAULT_API,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            show_default="that of the configuration",
            help="Where the node keeps its log; a second node on one computer has its own.",
        ),
    ] = None,
) -> None:
    """Watch the swarm in the terminal: nodes, blocks, sessions, speeds, contributors, the log.

    1 to 5 show or go to a part, s sorts, / filters, Enter shows all about a node, q quits.

    [bold]Examples[/]

      gridnode top
      gridnode top --api 127.0.0.1:7347
    """
    import asyncio
    import os

    from gridnode.cli.terminal_check import need_terminal
    from gridnode.config.sources import read_sources
    from gridnode.control.client import ControlClient
    from gridnode.logs import LOG_FILE
    from gridnode_dashboard.top_app import TopApp

    need_terminal("gridnode status --json")
    directory = state_dir or read_sources(os.environ)["node.state_dir"].value

    async def watch() -> None:
        async with ControlClient(api) as client:
            await TopApp(client, log_file=directory / LOG_FILE).run_async()

    asyncio.run(watch())
