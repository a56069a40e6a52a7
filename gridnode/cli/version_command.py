"""`gridnode version`."""

from __future__ import annotations

import platform
from typing import Annotated

import typer

from gridnode import __version__


def version(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON with the versions of Python too.")
    ] = False,
) -> None:
    """Print the version of gridnode.

    [bold]Examples[/]

      gridnode version
      gridnode version --json
    """
    if as_json:
        from gridnode.cli.json_records import Version
        from gridnode.cli.showing import print_json

        print_json(Version(version=__version__, python=platform.python_version(), system=platform.platform()))
    else:
        print(f"gridnode {__version__}")
