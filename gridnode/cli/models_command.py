"""`gridnode models`."""

from __future__ import annotations

from gridnode.cli.options import ApiOption, JsonOption, LogLevel, LogLevelOption
from gridnode.config import DEFAULT_API


def models(
    as_json: JsonOption = False, api: ApiOption = DEFAULT_API, log_level: LogLevelOption = LogLevel.WARNING
) -> None:
    """Show the models that the swarm serves. 'gridnode list' shows those on this computer's disk.

    [bold]Examples[/]

      gridnode models
      gridnode models --json
    """
    import asyncio

    from gridnode.cli.status_records import Models
    from gridnode.cli.status_tables import models_view
    from gridnode.cli.watching import show_status
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    asyncio.run(
        show_status(
            api, view=models_view, record=lambda status: Models(models=status.models), as_json=as_json
        )
    )
