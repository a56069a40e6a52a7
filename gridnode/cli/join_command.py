"""`gridnode join`."""

from __future__ import annotations

from typing import Annotated

import typer

from gridnode.cli.keys_commands import StateDirOption
from gridnode.cli.options import JsonOption


def join(
    invitation: Annotated[
        str,
        typer.Argument(
            metavar="LINK|@FILE|-", help="What 'gridnode invite' printed; '-' reads it from standard input."
        ),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Also if that forgets the key of another private swarm.")
    ] = False,
    as_json: JsonOption = False,
    state_dir: StateDirOption = None,
) -> None:
    """Take the node of this computer into the swarm of an invitation, from its next start on.

    [bold]Examples[/]

      gridnode join -                          [dim]# then paste the link[/]
      gridnode join @invitation.txt
    """
    from gridnode.cli.joining import join_swarm

    join_swarm(invitation, replaces=replace, as_json=as_json, state_dir=state_dir)
