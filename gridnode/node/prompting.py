"""From what a request asks to the tokens that the model is given."""

from __future__ import annotations

import asyncio
from typing import Any

from gridnode.control.answer_schema import ChatMessage, GenerateRequest, Tool
from gridnode.core.plain_json import parse_plain
from gridnode.engine.text import TextCodec
from gridnode.errors import BadInput


async def prepare_prompt(request: GenerateRequest, codec: TextCodec) -> list[int]:
    """Return `prompt_tokens` of `request`, made beside the event loop: long prompts take seconds.

    Raises:
        BadInput: as `prompt_tokens`.
    """
    async with codec.room:
        return await asyncio.to_thread(prompt_tokens, request, codec)


def prompt_tokens(request: GenerateRequest, codec: TextCodec) -> list[int]:
    """Return the token ids of what `request` asks.

    Raises:
        BadInput: neither messages nor a prompt nor token ids are given, messages stand beside the
            others, the prompt is empty, or tools are given without messages.
    """
    if bool(request.messages) == bool(request.prompt or request.token_ids):
        raise BadInput("give either messages, or a prompt, token_ids or both")
    if request.messages:
        messages = [_template_message(message) for message in request.messages]
        tools = [_template_tool(tool) for tool in offered_tools(request)]
        return codec.encode_chat(messages, tools or None)
    if request.tools:
        raise BadInput("tools need messages: they are told to the model by its chat template")
    if request.token_ids:
        return [*request.token_ids, *codec.encode_continuation(request.prompt)]
    token_ids = codec.encode(request.prompt)
    if not token_ids:
        raise BadInput("the prompt has no tokens")
    return token_ids


def offered_tools(request: GenerateRequest) -> tuple[Tool, ...]:
    """Return the tools that the model may call in this answer.

    Raises:
        BadInput: the one that must be called is not among them, or there is none to call.
    """
    if request.tool_choice in ("auto", "none"):
        return request.tools if request.tool_choice == "auto" else ()
    if request.tool_choice == "required":
        if not request.tools:
            raise BadInput("a tool must be called, and none is given")
        return request.tools
    found = tuple(tool for tool in request.tools if tool.name == request.tool_choice)
    if not found:
        names = ", ".join(tool.name for tool in request.tools) or "none"
        raise BadInput(f"the tool {request.tool_choice[:64]!r} must be called; given are {names}")
    return found


def _template_message(message: ChatMessage) -> dict[str, Any]:
    """Return `message` as `transformers` gives it to templates."""
    result: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name:
        result["name"] = message.name
    if message.tool_call_id:
        result["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        result["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.name, call.arguments)},
            }
            for call in message.tool_calls
        ]
    return result


def _arguments(name: str, text: str) -> Any:
    try:
        return parse_plain(text or "{}")
    except ValueError as exc:
        raise BadInput(f"the arguments of the call of {name[:64]!r} are not JSON: {exc}") from exc


def _template_tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
