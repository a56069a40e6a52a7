"""`gridnode ps`."""

from __future__ import annotations

from gridnode.cli.options import ApiOption, JsonOption, LogLevel, LogLevelOption
from gridnode.config import DEFAULT_API


def ps(
    as_json: JsonOption = False, api: ApiOption = DEFAULT_API, log_level: LogLevelOption = LogLevel.WARNING
) -> None:
    """Show what the node on this computer has loaded, and the sessions that run through it.

    [bold]Examples[/]

      gridnode ps
      gridnode ps --json
    """
    import asyncio

    from gridnode.cli.ps_tables import ps_view
    from gridnode.cli.status_records import loaded_of
    from gridnode.cli.watching import show_status
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    asyncio.run(show_status(api, view=ps_view, record=loaded_of, as_json=as_json))
