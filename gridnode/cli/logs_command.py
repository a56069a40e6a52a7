"""`gridnode logs`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gridnode.cli.options import LogLevel
from gridnode.config.sources import read_sources


def logs(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines, until Ctrl-C.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines to begin with.")] = 50,
    level: Annotated[LogLevel, typer.Option(help="Least level to show.")] = LogLevel.DEBUG,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the lines as they are in the file, one JSON object each.")
    ] = False,
    state_dir: Annotated[
        Path | None,
        typer.Option(show_default="that of the configuration", help="State directory of the node."),
    ] = None,
) -> None:
    """Print the log of the node on this computer, whether it runs or not.

    [bold]Examples[/]

      gridnode logs
      gridnode logs -f --level warning
      gridnode logs -n 1000 --json
    """
    from gridnode.cli.log_reading import follow_lines, last_lines, log_file, print_lines

    directory: Path = state_dir or read_sources(os.environ)["node.state_dir"].value
    file = log_file(directory)
    print_lines(last_lines(file, lines, least=level), as_json=as_json)
    if follow:
        print_lines(follow_lines(file, least=level), as_json=as_json)
