"""The second half of `docs/cli.md`, made from the commands and from the records that they print."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin

import typer.main
from msgspec import Meta

from gridnode.cli import json_records, status_records
from gridnode.cli.app import create_app
from gridnode.cli.doctor.findings import Diagnosis
from gridnode.config.field_docs import field_docs
from gridnode.control.answer_schema import Delta, Failed, Finished, Rerouted, Started, Waiting
from gridnode.control.keys import ApiKey
from gridnode.control.status_schema import NodeStatus

RECORDS: dict[str, tuple[type, ...]] = {
    "bench quality": (json_records.BenchedQualities,),
    "config get": (json_records.ConfigValue,),
    "config keys": (json_records.ConfigKeys,),
    "config path": (json_records.ConfigPaths,),
    "config show": (json_records.ConfigValues,),
    "doctor": (Diagnosis,),
    "down": (json_records.Stopped,),
    "invite": (json_records.Invited,),
    "join": (json_records.Joined,),
    "keys create": (ApiKey,),
    "keys list": (ApiKey,),
    "keys revoke": (ApiKey,),
    "list": (json_records.ListedModels,),
    "logs": (json_records.LogRecord,),
    "models": (status_records.Models,),
    "pause": (json_records.Resting,),
    "peers": (status_records.Peers,),
    "ping": (json_records.Pong,),
    "score": (json_records.ScoredLine,),
    "tune": (json_records.TuningStep,),
    "ps": (status_records.Loaded,),
    "pull": (json_records.PulledModel,),
    "resume": (json_records.Resting,),
    "rm": (json_records.RemovedModel,),
    "run": (Waiting, Started, Delta, Rerouted, Finished, Failed),
    "show": (json_records.ShownModel,),
    "status": (NodeStatus,),
    "version": (json_records.Version,),
}
"""What each command with `--json` prints; `up`, `monitor` and `relay` are described by hand."""

_HIDDEN = {(ApiKey, "sha256")}
_NOTES = {
    "keys create": "with the key itself as `key`",
    "keys list": "in `keys`",
    "run": "one event a line",
    "logs": "one record a line",
}
_WORDS = {
    str: "text",
    bytes: "bytes",
    bool: "true or false",
    int: "whole number",
    float: "number",
    types.NoneType: "null",
}


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command with its name, those of groups with both words."""

    def walk(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, f"{prefix}{name} ")
            else:
                yield prefix + name, command

    yield from walk(typer.main.get_command(create_app()), "")


def prints_json(command: Any) -> bool:
    """Return whether a command has `--json`."""
    return any("--json" in parameter.opts for parameter in command.params)


def reference() -> str:
    """Return the generated half of the document."""
    lines = ["", "## All commands", "", "| command | what it does | with `--json` |", "|---|---|---|"]
    for name, command in commands():
        summary = (
            inspect.cleandoc(command.help or "").split("\n\n")[0].replace("\n", " ").replace("[bold]", "")
        )
        lines.append(f"| `{name}` | {summary.replace('[/]', '')} | {_printed(name, command)} |")
    lines += ["", "## Records", ""]
    roots = [record for records in RECORDS.values() for record in records]
    return "\n".join(lines + record_tables(all_records(roots)))


def record_tables(records: Iterable[type]) -> list[str]:
    """Return the lines of a chapter for each record, with a table of its fields."""
    lines: list[str] = []
    for record in records:
        lines += [
            f"### {record.__name__}",
            "",
            _summary(record),
            "",
            "| field | type | meaning |",
            "|---|---|---|",
        ]
        hints, docs = typing.get_type_hints(record), field_docs(record)
        for field in dataclasses.fields(record):
            if (record, field.name) not in _HIDDEN:
                lines.append(f"| `{field.name}` | {_words(hints[field.name])} | {docs.get(field.name, '')} |")
        lines.append("")
    return lines


def _printed(name: str, command: Any) -> str:
    if not prints_json(command):
        return ""
    if name not in RECORDS:
        return "events, see above"
    note = f", {_NOTES[name]}" if name in _NOTES else ""
    return ", ".join(map(_link, RECORDS[name])) + note


def _summary(record: type) -> str:
    return " ".join(inspect.cleandoc(record.__doc__ or "").split("\n\n")[0].split())


def all_records(roots: Iterable[type]) -> list[type]:
    """Return records and those inside them, by name."""
    found: dict[str, type] = {}

    def visit(annotation: Any) -> None:
        for part in get_args(annotation):
            visit(part)
        is_record = dataclasses.is_dataclass(annotation) and isinstance(annotation, type)
        if is_record and annotation.__name__ not in found:
            found[annotation.__name__] = annotation
            for hint in typing.get_type_hints(annotation).values():
                visit(hint)

    for record in roots:
        visit(record)
    return [found[name] for name in sorted(found)]


def _link(record: type) -> str:
    return f"[{record.__name__}](#{record.__name__.lower()})"


def _words(annotation: Any) -> str:
    """Return a type in the words of JSON."""
    if annotation == json_records.ConfigData:
        return "any value of TOML, or null"
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(inner[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (tuple, list):
        if origin is tuple and Ellipsis not in inner:
            return "list of " + " and ".join(map(_words, inner))
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return f"object with {_words(inner[1])} for each key"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_words(part) for part in inner if not isinstance(part, Meta))
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _link(annotation)
    return _word(annotation)


def _word(annotation: Any) -> str:
    """Return a type that has no others inside."""
    if isinstance(annotation, typing.NewType):
        return _words(annotation.__supertype__)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "text"
    if isinstance(annotation, type) and issubclass(annotation, tuple):  # with names for its members
        return f"[{', '.join(typing.get_type_hints(annotation))}]"
    return _WORDS.get(annotation, "anything")
