"""Reading a configuration file, so that every complaint names the file, the line and the right key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from gridnode.config.layers import Given, OriginName
from gridnode.config.settings import nearest, settings
from gridnode.errors import BadInput, reason


def read_file(path: Path, origin: OriginName) -> dict[str, Given]:
    """Return the values in a file; a file that is not there gives none.

    Raises:
        BadInput: it cannot be read; the text names every line that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise BadInput(f"cannot read the configuration file {path}: {reason(exc)}") from exc
    return parse_file(text, path=path, origin=origin)


def parse_file(text: str, *, path: Path, origin: OriginName) -> dict[str, Given]:
    """Return the values in the text of a file. Pure.

    Raises:
        BadInput: as `read_file`.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise BadInput(f"{path} is not TOML: {exc}") from exc
    values: dict[str, Given] = {}
    problems: list[tuple[int, str]] = []
    for name, value in _flatten(document).items():
        line = line_of(text, name)
        setting = settings().get(name)
        if setting is None:
            problems.append((line, unknown_key(name)))
            continue
        try:
            found = setting.check(setting.kind.read_toml(value))
        except ValueError as exc:
            problems.append((line, f"{name}: {exc}"))
            continue
        values[name] = Given(found, origin, f"{path}:{line}")
    if problems:
        raise BadInput("\n".join(f"{path} line {line}: {problem}" for line, problem in sorted(problems)))
    return values


def unknown_key(name: str) -> str:
    """Return what to say of a key that does not exist."""
    meant = nearest(name)
    return f"there is no key {name}; " + (
        f"did you mean {meant}?" if meant else "'gridnode config keys' lists them"
    )


def line_of(text: str, name: str) -> int:
    """Return the line, from 1, on which a file sets `name`; that of its section if it is unclear."""
    section = name.rpartition(".")[0]
    at, section_line = "", 1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
            at = full = _bare(header[1])
        elif found := re.match(r"\s*([\w.\"'\s-]+?)\s*=", line):
            full = f"{at}.{_bare(found[1])}".removeprefix(".")
        else:
            continue
        if f"{full}.".startswith(f"{name}."):
            return number
        if full == section:
            section_line = number
    return section_line


def _bare(name: str) -> str:
    return re.sub(r"[\s\"']", "", name)


def _flatten(document: dict[str, Any]) -> dict[str, Any]:
    """Return `{"serve.model": ...}` for `{"serve": {"model": ...}}`."""
    found: dict[str, Any] = {}
    for section, value in document.items():
        if isinstance(value, dict):
            found |= {f"{section}.{key}": inner for key, inner in value.items()}
        else:
            found[section] = value
    return found
