"""`gridnode ping`."""

from __future__ import annotations

from typing import Annotated

import typer

from gridnode.cli.options import ApiOption, JsonOption, LogLevel, LogLevelOption
from gridnode.config import DEFAULT_API


def ping(
    peer: Annotated[
        str, typer.Argument(metavar="PEER", help="Beginning of a node's id, or its public name.")
    ],
    count: Annotated[int, typer.Option("--count", "-c", min=1, help="How often to ask.")] = 3,
    as_json: JsonOption = False,
    api: ApiOption = DEFAULT_API,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Measure the way from the node on this computer to another one, and say which way that is.

    [bold]Examples[/]

      gridnode ping 7xtvdhci
      gridnode ping --count 10 Anna
    """
    import asyncio

    from gridnode.cli.pinging import ping_peer
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    asyncio.run(ping_peer(api, peer, count=count, as_json=as_json))
