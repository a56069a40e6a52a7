"""Telling models of tools whose chat templates have no words for them, in the format of Hermes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_INTRODUCTION = (
    "You may call functions to help with the user's request. Their signatures, one a line:\n"
    "<tools>\n{tools}\n</tools>\nTo call one, answer with nothing but its name and its arguments as JSON:\n"
    '<tool_call>\n{{"name": "...", "arguments": {{...}}}}\n</tool_call>'
)


def spell_out_tools(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Return `messages` with tools, calls and their results put into ordinary turns."""
    plain = [_spell_out(message) for message in messages]
    if not tools:
        return plain
    introduction = _INTRODUCTION.format(
        tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    )
    if plain and plain[0]["role"] == "system":
        return [{"role": "system", "content": f"{plain[0]['content']}\n\n{introduction}"}, *plain[1:]]
    return [{"role": "system", "content": introduction}, *plain]


def _spell_out(message: Mapping[str, Any]) -> dict[str, str]:
    role, content = str(message["role"]), str(message.get("content") or "")
    if role == "tool":
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    calls = [
        f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>"
        for call in message.get("tool_calls") or ()
    ]
    return {"role": role, "content": "\n".join(part for part in (content, *calls) if part)}
