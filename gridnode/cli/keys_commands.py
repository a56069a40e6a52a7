"""`gridnode keys`: who may use this node from other computers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gridnode.cli.options import JsonOption
from gridnode.cli.showing import plain_table, print_json, stdout
from gridnode.config.sources import read_sources
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import DEFAULT_MAX_ANSWERS, DEFAULT_REQUESTS_PER_MINUTE, ApiKey, Scope

StateDirOption = Annotated[
    Path | None,
    typer.Option("--state-dir", metavar="PATH", help="State directory of the node.", show_default=False),
]


def list_keys(as_json: JsonOption = False, state_dir: StateDirOption = None) -> None:
    """List the keys of the node on this computer. The keys themselves are kept nowhere.

    [bold]Examples[/]

      gridnode keys list
    """
    keys = _key_file(state_dir).keys()
    if as_json:
        print_json({"keys": [_shown(key) for key in keys]})
        return
    if not keys:
        print("no keys yet; 'gridnode keys create NAME' makes one", file=sys.stderr)
        return
    table = plain_table("ID", "NAME", "SCOPES", "PER MINUTE", "AT ONCE", "CREATED", right=_NUMBERS)
    for key in keys:
        limits = str(key.requests_per_minute), str(key.max_answers)
        table.add_row(key.id, key.name, " ".join(key.scopes), *limits, key.created_at)
    stdout().print(table, soft_wrap=True, markup=False)


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whom or what it is for.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            help="What it is good for: chat asks models, monitor looks at the swarm, admin does everything. "
            "May be repeated.",
            show_default="chat and monitor",
        ),
    ] = None,
    rate: Annotated[
        int, typer.Option(min=1, metavar="N", help="Requests per minute.")
    ] = DEFAULT_REQUESTS_PER_MINUTE,
    answers: Annotated[
        int, typer.Option(min=1, metavar="N", help="Answers at the same time.")
    ] = DEFAULT_MAX_ANSWERS,
    as_json: JsonOption = False,
    state_dir: StateDirOption = None,
) -> None:
    """Make a key and print it, this once. A running node takes it at once.

    [bold]Examples[/]

      gridnode keys create laptop
      gridnode keys create bot --scope chat --rate 60 --answers 2
    """
    scopes = tuple(scope or (Scope.CHAT, Scope.MONITOR))
    key, secret = _key_file(state_dir).create(
        name, scopes=scopes, requests_per_minute=rate, max_answers=answers
    )
    if as_json:
        print_json({**_shown(key), "key": secret})
        return
    print(secret, flush=True)
    print(
        f"key {key.id} is for {', '.join(key.scopes)}, and shown this once; other computers send it as "
        "'Authorization: Bearer gn-...', and commands of gridnode take it from GRIDNODE_API_KEY",
        file=sys.stderr,
    )


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id or name of the key.")],
    as_json: JsonOption = False,
    state_dir: StateDirOption = None,
) -> None:
    """Take a key back. A running node refuses it at once; answers that run go on to their end.

    [bold]Examples[/]

      gridnode keys revoke laptop
    """
    key = _key_file(state_dir).revoke(key_id)
    if as_json:
        print_json(_shown(key))
    else:
        print(f"key {key.id} ({key.name}) is revoked", file=sys.stderr)


_NUMBERS = frozenset({"PER MINUTE", "AT ONCE"})


def _key_file(state_dir: Path | None) -> KeyFile:
    return KeyFile(state_dir or read_sources(os.environ)["node.state_dir"].value)


def _shown(key: ApiKey) -> dict[str, object]:
    """Return the fields of a key that people may see: its hash helps nobody."""
    record: dict[str, object] = msgspec.to_builtins(key)
    del record["sha256"]
    return record


COMMANDS: Mapping[str, Callable[..., None]] = {"list": list_keys, "create": create, "revoke": revoke}
"""The commands by their names."""
