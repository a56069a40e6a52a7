"""`gridnode status`."""

from __future__ import annotations

from typing import Annotated

import typer

from gridnode.cli.options import ApiOption, LogLevel, LogLevelOption
from gridnode.config import DEFAULT_API


def status(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; fields are added, never renamed.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it, until Ctrl-C.")] = False,
    api: ApiOption = DEFAULT_API,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Show the nodes and models of the swarm, as the node on this computer sees them.

    The node itself is marked with [bold]*[/]. SPEED is what a node can do alone, for its own blocks.

    [bold]Examples[/]

      gridnode status
      gridnode status --watch
      gridnode status --json
      gridnode status --api 127.0.0.1:7347
    """
    import asyncio

    from gridnode.cli.watching import follow_status, show_status
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    asyncio.run((follow_status if watch else show_status)(api, as_json=as_json))
