"""Changing a configuration file for a person, without touching what she wrote around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from gridnode.config.settings import Setting
from gridnode.errors import BadInput
from gridnode.paths import write_atomically


def with_value(text: str, setting: Setting, value: Any) -> str:
    """Return the text of a file with another value; None takes the key out. Pure.

    Raises:
        BadInput: the text is not TOML.
    """
    try:
        document = tomlkit.parse(text)
        table = document.get(setting.section)
        if value is None:
            if table is not None:
                table.pop(setting.key, None)
        else:
            if table is None:
                table = document[setting.section] = tomlkit.table()
                table = document[setting.section]
            table[setting.key] = setting.kind.write_toml(value)
    except (TOMLKitError, TypeError, AttributeError) as exc:
        raise BadInput(f"the file cannot be changed: {exc}; 'gridnode config edit' opens it") from exc
    return tomlkit.dumps(document)


def change_file(path: Path, setting: Setting, value: Any) -> None:
    """Give a key of a file another value; None takes it out.

    Raises:
        BadInput: the file cannot be read or written.
    """
    path = path.resolve()  # the file itself, where a link to a repository of dot files stands for it
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        write_atomically(path, with_value(text, setting, value).encode(), mode=mode)
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"cannot change {path}: {exc}") from exc
