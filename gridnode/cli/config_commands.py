"""`gridnode config`: looking at the configuration, and changing it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from gridnode.cli.json_records import ConfigKey, ConfigKeys, ConfigPaths, ConfigValue, ConfigValues
from gridnode.cli.options import JsonOption
from gridnode.cli.showing import plain_table, print_json, stdout
from gridnode.config.layers import Given
from gridnode.config.settings import Setting, settings
from gridnode.config.sources import SYSTEM_FILE, read_environment, read_sources, user_file
from gridnode.config.toml_file import read_file, unknown_key
from gridnode.errors import BadInput
from gridnode.paths import write_atomically

_EDITORS = ("sensible-editor", "nano", "vi")


def _complete_key(incomplete: str) -> list[str]:
    return [name for name in settings() if name.startswith(incomplete)]


KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="Like serve.model.", autocompletion=_complete_key)
]
SystemOption = Annotated[
    bool, typer.Option("--system", help=f"The file of the whole computer, {SYSTEM_FILE}.")
]


def show(
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print every key with the value that counts, as a configuration file.

    [bold]Examples[/]

      gridnode config show --origin
    """
    from gridnode.config.rendering import as_toml

    values = read_sources(os.environ)
    if as_json:
        print_json(ConfigValues(values=tuple(_record(name, given) for name, given in values.items())))
    else:
        print(as_toml(values, with_origins=origin), end="")


def get(key: KeyArgument, as_json: JsonOption = False) -> None:
    """Print the value of a key; several lines for a list, none if it is not set.

    [bold]Examples[/]

      gridnode config get serve.model
    """
    setting = _setting(key)
    given = read_sources(os.environ)[key]
    if as_json:
        print_json(_record(key, given))
    elif given.value is not None:
        written = setting.kind.write_toml(given.value)
        for line in written if isinstance(written, list) else [written]:
            print(str(line).lower() if isinstance(line, bool) else line)


def set_value(
    key: KeyArgument,
    value: Annotated[list[str], typer.Argument(metavar="VALUE", help="Several for a list.")],
    system: SystemOption = False,
) -> None:
    """Write a value into your configuration file; comments stay.

    [bold]Examples[/]

      gridnode config set serve.model HuggingFaceTB/SmolLM2-135M-Instruct
      gridnode config set limits.memory 4GiB
    """
    setting = _setting(key)
    if len(value) > 1 and not setting.kind.is_list:
        raise BadInput(f"{key} takes one value, got {len(value)}; put it in quotes if there are blanks in it")
    try:
        found = setting.check(setting.kind.read_text(",".join(value)))
    except ValueError as exc:
        raise BadInput(f"{key}: {exc}") from exc
    _change(setting, found, _file(system))


def unset(key: KeyArgument, system: SystemOption = False) -> None:
    """Take a key out of your configuration file, so that its default counts again.

    [bold]Examples[/]

      gridnode config unset limits.memory
    """
    _change(_setting(key), None, _file(system))


def edit(system: SystemOption = False) -> None:
    """Open your configuration file in $VISUAL or $EDITOR; check it afterwards.

    [bold]Examples[/]

      gridnode config edit
    """
    from gridnode.config.rendering import template

    path = _file(system)
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "")
    command = command or [found for name in _EDITORS if (found := shutil.which(name))][:1]
    if not command:
        raise BadInput(f"there is no editor; set EDITOR, or edit {path} in another way")
    try:
        if not path.exists():
            write_atomically(path, template().encode())
        code = subprocess.run([*command, str(path)], check=False).returncode
    except OSError as exc:
        raise BadInput(f"cannot edit {path}: {exc}") from exc
    if code:
        raise BadInput(f"{command[0]} ended with exit code {code}")
    read_file(path, "user file")


def path(system: SystemOption = False, as_json: JsonOption = False) -> None:
    """Print the path of your configuration file, whether or not it exists yet.

    [bold]Examples[/]

      gridnode config path
    """
    if as_json:
        print_json(ConfigPaths(user=str(user_file(os.environ)), system=str(SYSTEM_FILE)))
    else:
        print(_file(system))


def keys(as_json: JsonOption = False) -> None:
    """List every key: what it takes, its default, what it means.

    The variable of serve.model is GRIDNODE_SERVE_MODEL, and so on.

    [bold]Examples[/]

      gridnode config keys
    """
    if as_json:
        print_json(ConfigKeys(keys=tuple(map(_description, settings().values()))))
        return
    table = plain_table("KEY", "MEANING", folded=frozenset({"MEANING"}))
    for name, setting in settings().items():
        default = f"; default: {setting.described_default}" if setting.described_default else ""
        table.add_row(name, f"{setting.doc.replace('`', '')} ({setting.kind.name}{default})")
    stdout().print(table)


def _setting(key: str) -> Setting:
    try:
        return settings()[key]
    except KeyError:
        raise BadInput(unknown_key(key)) from None


def _file(system: bool) -> Path:
    return SYSTEM_FILE if system else user_file(os.environ)


def _change(setting: Setting, value: object, path: Path) -> None:
    from gridnode.config.editing import change_file

    change_file(path, setting, value)
    when = "after 'kill -HUP' of it, or at its" if setting.is_live else "at its"
    print(f"{path}: a node takes it over {when} next start", file=sys.stderr)
    if setting.name in read_environment(os.environ):
        print(f"{setting.variable} is set here, and wins over the file", file=sys.stderr)


def _record(name: str, given: Given) -> ConfigValue:
    written = None if given.value is None else settings()[name].kind.write_toml(given.value)
    return ConfigValue(key=name, value=written, origin=given.origin, where=given.where)


def _description(setting: Setting) -> ConfigKey:
    return ConfigKey(
        key=setting.name,
        takes=setting.kind.name,
        default=None if setting.default is None else setting.kind.write_toml(setting.default),
        variable=setting.variable,
        flag=setting.flag,
        live=setting.is_live,
        meaning=setting.doc,
    )


COMMANDS: Mapping[str, Callable[..., None]] = {
    "show": show,
    "get": get,
    "set": set_value,
    "unset": unset,
    "edit": edit,
    "path": path,
    "keys": keys,
}
"""The commands by their names."""
