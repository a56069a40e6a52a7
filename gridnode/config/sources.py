"""Where the configuration comes from: two files, the environment, and the flags of one command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gridnode.config.layers import Given, Layer, merge
from gridnode.config.settings import nearest, settings
from gridnode.config.toml_file import read_file
from gridnode.errors import BadInput
from gridnode.paths import config_dir

SYSTEM_FILE = Path("/etc/gridnode/config.toml")

ONLY_FILE_VARIABLE = "GRIDNODE_CONFIG"
"""Names the only file that is read, instead of the system's and the user's."""


def user_file(environ: Mapping[str, str]) -> Path:
    """Return the file that a person edits."""
    only = environ.get(ONLY_FILE_VARIABLE)
    return Path(only) if only else config_dir() / "config.toml"


def read_sources(environ: Mapping[str, str], flags: Layer | None = None) -> dict[str, Given]:
    """Return every key with its value: flag > environment > user file > system file > default.

    Raises:
        BadInput: a file or a variable is wrong.
    """
    is_only = bool(environ.get(ONLY_FILE_VARIABLE))
    return merge(
        {} if is_only else read_file(SYSTEM_FILE, "system file"),
        read_file(user_file(environ), "user file"),
        read_environment(environ),
        flags or {},
    )


def read_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """Return the values that variables give; an empty variable gives none. Pure.

    Raises:
        BadInput: a value is wrong.
    """
    found = {}
    for name, setting in settings().items():
        text = environ.get(setting.variable, "")
        if not text:
            continue
        try:
            value = setting.check(setting.kind.read_text(text))
        except ValueError as exc:
            raise BadInput(f"{setting.variable}: {exc}") from exc
        found[name] = Given(value, "environment", setting.variable)
    return found


def strange_variables(environ: Mapping[str, str]) -> list[str]:
    """Return one line for every variable that looks like a misspelt key. Pure.

    They are no errors: other programs, and other versions of gridnode, have variables too.
    """
    known = {setting.variable: name for name, setting in settings().items()}
    sections = {setting.section.upper() for setting in settings().values()}
    lines = []
    for variable in environ:
        _, _, rest = variable.partition("GRIDNODE_")
        section, _, key = rest.partition("_")
        if variable in known or not variable.startswith("GRIDNODE_") or section not in sections:
            continue
        meant = nearest(f"{section}.{key}".lower())
        if meant:
            lines.append(f"{variable} is not read; did you mean {settings()[meant].variable}?")
    return lines
