"""`gridnode pause`, `gridnode resume` and `gridnode down`."""

from __future__ import annotations

from typing import Annotated

import typer

from gridnode.cli.options import ApiOption, JsonOption, LogLevel, LogLevelOption
from gridnode.config import DEFAULT_API
from gridnode.units import parse_seconds


def _duration(text: str) -> float:
    try:
        return parse_seconds(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def pause(
    duration: Annotated[
        float | None,
        typer.Argument(
            parser=_duration, metavar="DURATION", help="How long: 30m, 2h, 1d. Left out: until 'resume'."
        ),
    ] = None,
    as_json: JsonOption = False,
    api: ApiOption = DEFAULT_API,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Stop serving blocks for a while, and free their memory.

    Answers that run through this node move to other nodes first; nothing of them is lost. The node stays
    in the swarm, and still answers through others.

    [bold]Examples[/]

      gridnode pause 2h
      gridnode pause
      gridnode resume
    """
    import asyncio

    from gridnode.cli.pausing import pause_node
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    asyncio.run(pause_node(api, duration, as_json=as_json))


def resume(
    as_json: JsonOption = False, api: ApiOption = DEFAULT_API, log_level: LogLevelOption = LogLevel.WARNING
) -> None:
    """Serve blocks again after a pause."""
    import asyncio

    from gridnode.cli.pausing import resume_node
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    asyncio.run(resume_node(api, as_json=as_json))


def down(
    as_json: JsonOption = False, api: ApiOption = DEFAULT_API, log_level: LogLevelOption = LogLevel.WARNING
) -> None:
    """Stop the node on this computer, once answers that run through it have moved to other nodes."""
    import asyncio

    from gridnode.cli.pausing import stop_node
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    asyncio.run(stop_node(api, as_json=as_json))
