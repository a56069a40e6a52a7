"""The items of a conversation in `POST /v1/responses`: turns, calls of tools, and their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gridnode.control.answer_schema import ChatMessage, ToolCall
from gridnode.control.openai.content import Content, Text, content_text
from gridnode.control.openai.errors import BadField
from gridnode.control.openai.tool_fields import Name

Id = Annotated[str, Meta(max_length=128)]


class InputItem(msgspec.Struct, kw_only=True, frozen=True):
    """One item: which fields it has depends on its type."""

    type: Annotated[str, Meta(max_length=64)] = "message"
    """`message`, `function_call`, `function_call_output`; `reasoning` is left out of the conversation."""

    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Content | None = None
    call_id: Id | None = None
    name: Name | None = None
    arguments: Text | None = None
    output: Content | None = None
    """What a function gave back."""


def item_messages(items: Sequence[InputItem]) -> tuple[ChatMessage, ...]:
    """Return the conversation; calls of one turn become one turn of the assistant.

    Raises:
        BadField: an item is of a kind that does not exist here, or lacks a field.
    """
    names = {item.call_id or "": item.name or "" for item in items if item.type == "function_call"}
    messages: list[ChatMessage] = []
    for number, item in enumerate(items):
        param = f"input[{number}]"
        if item.type == "message":
            messages.append(_turn(item, param))
        elif item.type == "function_call":
            call = _call(item, param)
            if messages and messages[-1].role == "assistant":
                messages[-1] = replace(messages[-1], tool_calls=(*messages[-1].tool_calls, call))
            else:
                messages.append(ChatMessage(role="assistant", tool_calls=(call,)))
        elif item.type == "function_call_output":
            messages.append(_result(item, names, param))
        elif item.type != "reasoning":
            raise BadField(f"the item {param} of type {item.type!r} is refused", param=f"{param}.type")
    return tuple(messages)


def _turn(item: InputItem, param: str) -> ChatMessage:
    if item.role is None or item.content is None:
        raise BadField(f"the message {param} needs 'role' and 'content'", param=param)
    role = "system" if item.role == "developer" else item.role
    return ChatMessage(role=role, content=content_text(item.content, param=f"{param}.content"))


def _call(item: InputItem, param: str) -> ToolCall:
    if item.call_id is None or item.name is None or item.arguments is None:
        raise BadField(f"the call {param} needs 'call_id', 'name' and 'arguments'", param=param)
    return ToolCall(id=item.call_id, name=item.name, arguments=item.arguments)


def _result(item: InputItem, names: dict[str, str], param: str) -> ChatMessage:
    if item.call_id is None or item.output is None:
        raise BadField(f"the result {param} needs 'call_id' and 'output'", param=param)
    text = content_text(item.output, param=f"{param}.output")
    return ChatMessage(role="tool", content=text, tool_call_id=item.call_id, name=names.get(item.call_id, ""))
