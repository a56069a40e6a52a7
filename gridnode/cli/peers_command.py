"""`gridnode peers`."""

from __future__ import annotations

from gridnode.cli.options import ApiOption, JsonOption, LogLevel, LogLevelOption
from gridnode.config import DEFAULT_API


def peers(
    as_json: JsonOption = False, api: ApiOption = DEFAULT_API, log_level: LogLevelOption = LogLevel.WARNING
) -> None:
    """Show the nodes of the swarm and how this one reaches them.

    [bold]Examples[/]

      gridnode peers
      gridnode peers --json
    """
    import asyncio

    from gridnode.cli.peers_table import peers_table
    from gridnode.cli.status_records import Peers
    from gridnode.cli.watching import show_status
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    asyncio.run(
        show_status(api, view=peers_table, record=lambda status: Peers(peers=status.peers), as_json=as_json)
    )
