"""`gridnode invite`."""

from __future__ import annotations

from typing import Annotated

import typer

from gridnode.cli.keys_commands import StateDirOption
from gridnode.cli.options import JsonOption, option_reader
from gridnode.units import parse_seconds

_DURATION = option_reader(parse_seconds)


def invite(
    private: Annotated[
        bool, typer.Option("--private", help="Make a key for this node's swarm, if it has none yet.")
    ] = False,
    chat_only: Annotated[
        bool, typer.Option("--chat-only", help="The guest may ask; blocks that it serves are not used.")
    ] = False,
    lasting_s: Annotated[
        float | None,
        typer.Option(
            "--for",
            parser=_DURATION,
            metavar="DURATION",
            help="How long the guest may take part, like 12h or 7d.",
            show_default="30d with --chat-only, else for good",
        ),
    ] = None,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="First replace the key of the swarm by a new one.")
    ] = False,
    grace_s: Annotated[
        float | None,
        typer.Option(
            "--grace",
            parser=_DURATION,
            metavar="DURATION",
            help="With --rotate: how long the old key counts beside the new one; with 0s nobody follows.",
            show_default="1d",
        ),
    ] = None,
    qr: Annotated[
        bool | None,
        typer.Option("--qr/--no-qr", help="Show it as a QR code too.", show_default="on a terminal"),
    ] = None,
    as_json: JsonOption = False,
    state_dir: StateDirOption = None,
) -> None:
    """Print a link that lets another computer into this node's swarm. Whoever reads it may use it.

    [bold]Examples[/]

      gridnode invite --private                [dim]# the first one: makes a key[/]
      gridnode invite --chat-only --for 7d
      gridnode invite --rotate                 [dim]# a new key; members follow by themselves[/]
    """
    from gridnode.cli.inviting import Wish, print_invitation

    wish = Wish(private=private, chat_only=chat_only, lasting_s=lasting_s, rotate=rotate, grace_s=grace_s)
    print_invitation(wish, qr=qr, as_json=as_json, state_dir=state_dir)
