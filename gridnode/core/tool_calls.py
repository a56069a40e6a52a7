"""Finding the calls of tools in what a model says.

Models write calls in a few ways, all of them JSON with a name and arguments: between `<tool_call>`
tags (Hermes, Qwen), behind `[TOOL_CALLS]` (Mistral) or `<|python_tag|>` (Llama), or as the whole
answer. Markers that are special tokens never reach the text, so that the bare JSON is left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gridnode.core.plain_json import parse_plain

_MARKERS = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>")
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FoundCall:
    """A call that a model wrote."""

    name: str
    arguments: str
    """A JSON object."""


class ToolCallFilter:
    """Passes text on until a call of one of the tools may begin; tells the calls at the end.

    Args:
        names: The tools that may be called.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._held = ""
        self._is_holding = False
        self._is_begun = False

    def push(self, text: str) -> str:
        """Return what may be shown after `text` came."""
        self._held += text
        if self._is_holding:
            return ""
        if not self._is_begun:
            start = self._held.lstrip()
            if not start:
                return ""
            self._is_begun = True
            if start[0] in "{[":
                self._is_holding = True
                return ""
        found = [index for marker in _MARKERS if (index := self._held.find(marker)) >= 0]
        if found:
            self._is_holding = True
            keep = len(self._held) - min(found)
        else:
            keep = max(_overlap(self._held, marker) for marker in _MARKERS)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> tuple[str, list[FoundCall]]:
        """Return the text that was no call after all, and the calls."""
        held, self._held = self._held, ""
        calls = find_calls(held, self._names)
        return ("" if calls else held), calls


def find_calls(text: str, names: frozenset[str]) -> list[FoundCall]:
    """Return the calls of the tools `names` in `text`; none if one of them cannot be read."""
    tagged = _TAGGED.findall(text)
    if tagged:
        pieces = tagged
    else:
        for marker in _MARKERS:
            text = text.replace(marker, "")
        pieces = [piece for piece in (text.strip(),) if piece]
    calls: list[FoundCall] = []
    for piece in pieces:
        try:
            values = parse_plain(piece)
        except ValueError:
            return []
        for value in values if isinstance(values, list) else [values]:
            call = _as_call(value)
            if call is None or call.name not in names:
                return []
            calls.append(call)
    return calls


def _as_call(value: Any) -> FoundCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # some models write the object as a text
        try:
            arguments = parse_plain(arguments)
        except ValueError:
            return None
    if not isinstance(arguments, dict):
        return None
    return FoundCall(value["name"], json.dumps(arguments, ensure_ascii=False))


def calls_schema(tools: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the JSON schema of one call of one of `tools` (name to the schema of its arguments)."""
    return json.dumps(
        {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"name": {"const": name}, "arguments": dict(schema) or {"type": "object"}},
                    "required": ["name", "arguments"],
                    "additionalProperties": False,
                }
                for name, schema in tools.items()
            ]
        }
    )


def _overlap(text: str, marker: str) -> int:
    """Return the length of the longest end of `text` that begins `marker`."""
    return next((n for n in range(min(len(text), len(marker)), 0, -1) if marker.startswith(text[-n:])), 0)
