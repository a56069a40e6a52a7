"""The configuration as TOML for people, and its keys as a table. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from tomlkit.items import item

from gridnode.config.keys import SECTIONS
from gridnode.config.layers import Given, Layer
from gridnode.config.settings import Setting, settings

_WIDTH = 100


def as_toml(values: Layer, *, with_origins: bool) -> str:
    """Return `values` as a configuration file; with `with_origins` every line says who gave its value."""
    lines: list[tuple[str, str]] = []
    for section, members in groupby(settings().values(), key=lambda setting: setting.section):
        lines += [("", "")] if lines else []
        lines.append((f"[{section}]", ""))
        for setting in members:
            given = values[setting.name]
            lines.append((_line(setting, given), _origin(given)))
    width = max(len(text) for text, origin in lines if origin and len(text) < _WIDTH)
    return "".join(
        (f"{text:{width}}  # {origin}" if with_origins and origin else text) + "\n" for text, origin in lines
    )


def _line(setting: Setting, given: Given) -> str:
    if given.value is None:
        return f"# {setting.key}: {setting.unset}"
    return f"{setting.key} = {toml_value(setting, given.value)}"


def _origin(given: Given) -> str:
    return " ".join(filter(None, (given.origin, given.where)))


def toml_value(setting: Setting, value: object) -> str:
    """Return `value` as it stands in a TOML file."""
    return str(item(setting.kind.write_toml(value)).as_string())


def template() -> str:
    """Return a file for people to begin with: every key, explained and commented out."""
    lines = [
        "# Configuration of gridnode. Take the '#' from a line to change what it says.",
        "# Flags and GRIDNODE_SECTION_KEY variables win over this file.",
    ]
    for section, members in groupby(settings().values(), key=lambda setting: setting.section):
        lines += ["", f"# {SECTIONS[section]}", f"[{section}]"]
        for setting in members:
            lines += ["", f"# {setting.doc.replace('`', '')}"]
            if setting.default is None:
                lines += [f"# Takes: {setting.kind.name}. Left out: {setting.unset}.", f"#{setting.key} ="]
            else:
                lines.append(f"# Takes: {setting.kind.name}.")
                lines.append(f"#{setting.key} = {toml_value(setting, setting.default)}")
    return "\n".join([*lines, ""])


def markdown_table(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """Return a table of Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

    return line(columns) + line(["---"] * len(columns)) + "".join(map(line, rows))


def reference() -> str:
    """Return every key as a table of Markdown, for `docs/configuration.md`."""
    return markdown_table(
        ("key", "takes", "default", "meaning"),
        (
            (
                f"`{setting.name}`",
                setting.kind.name,
                setting.described_default or "-",
                setting.doc + (" **Live.**" if setting.is_live else ""),
            )
            for setting in settings().values()
        ),
    )
