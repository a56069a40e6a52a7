"""From what clients of Anthropic ask to what the node is asked."""

from __future__ import annotations

import json
import secrets

from gridnode.control.answer_schema import GenerateRequest, Tool
from gridnode.control.anthropic.requests import MessagesRequest, OfferedTool, PromptRequest, ToolChoice
from gridnode.control.anthropic.turns import chat_messages
from gridnode.control.door_request import check_request, decode_fields
from gridnode.core.sampling import SamplingParams
from gridnode.errors import BadInput

# Theirs may be 0: the most probable token alone.
_SMALLEST_TOP_P = 1e-9


def prompt_request(wanted: PromptRequest) -> GenerateRequest:
    """Return a request with the prompt of `wanted`, and nothing else.

    Raises:
        BadInput: something is asked that no model here does, or a value is outside its limits.
    """
    return check_request(
        GenerateRequest(
            model=wanted.model,
            messages=chat_messages(wanted.system, wanted.messages),
            tools=tuple(_tool(tool) for tool in wanted.tools or ()),
            tool_choice=_tool_choice(wanted.tool_choice),
        )
    )


def messages_request(wanted: MessagesRequest) -> GenerateRequest:
    """Return what `POST /v1/messages` asks of the node.

    Raises:
        BadInput: as `prompt_request`.
    """
    prompt = prompt_request(wanted)
    return check_request(
        GenerateRequest(
            model=prompt.model,
            messages=prompt.messages,
            tools=prompt.tools,
            tool_choice=prompt.tool_choice,
            max_tokens=wanted.max_tokens,
            sampling=_sampling(wanted),
            # Anthropic passes over stop texts of white space only.
            stop=tuple(text for text in wanted.stop_sequences or () if text.strip()),
            json_schema=_schema(wanted),
        )
    )


def max_calls(wanted: PromptRequest) -> int | None:
    """Return how many calls of tools one answer may have; None is any number."""
    return 1 if wanted.tool_choice and wanted.tool_choice.disable_parallel_tool_use else None


def _sampling(wanted: MessagesRequest) -> SamplingParams:
    return decode_fields(
        {
            "temperature": 1.0 if wanted.temperature is None else wanted.temperature,
            "top_k": wanted.top_k or 0,
            "top_p": 1.0 if wanted.top_p is None else max(wanted.top_p, _SMALLEST_TOP_P),
            "seed": secrets.randbits(63),  # there is none in these words
        },
        SamplingParams,
    )


def _schema(wanted: MessagesRequest) -> str:
    chosen = (wanted.output_config and wanted.output_config.format) or wanted.output_format
    return json.dumps(chosen.schema) if chosen else ""


def _tool(tool: OfferedTool) -> Tool:
    if tool.type not in (None, "custom"):
        raise BadInput(
            f"the tool {tool.name[:64]!r} is of type {tool.type[:64]!r}, which Anthropic defines and runs; "
            "here a tool needs a name and an 'input_schema'"
        )
    return Tool(name=tool.name, description=tool.description or "", parameters=tool.input_schema)


def _tool_choice(choice: ToolChoice | None) -> str:
    if choice is None:
        return "auto"
    if choice.type == "tool":
        return choice.name
    return "required" if choice.type == "any" else choice.type
