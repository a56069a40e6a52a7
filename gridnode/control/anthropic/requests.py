"""What clients of Anthropic send. Fields that are not here concern its caches, accounts and servers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gridnode.control.answer_schema import MAX_MESSAGES, MAX_PROMPT_CHARACTERS, MAX_STOP_TEXTS, MAX_TOOLS

Text = Annotated[str, Meta(max_length=MAX_PROMPT_CHARACTERS)]


class Block(msgspec.Struct, kw_only=True, frozen=True):
    """A piece of a turn: `text`, `tool_use`, `tool_result`, `thinking`; models here read no others."""

    type: Annotated[str, Meta(max_length=64)]
    text: Text = ""
    id: str = ""
    """Of a call."""

    name: str = ""
    """Of the function that is called."""

    input: dict[str, Any] = {}
    """Arguments of a call."""

    tool_use_id: str = ""
    """The call that a result answers."""

    content: Content | None = None
    """Of a result."""

    is_error: bool | None = None


Content = Text | Annotated[tuple[Block, ...], Meta(max_length=MAX_MESSAGES)]


class InputMessage(msgspec.Struct, kw_only=True, frozen=True):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: Content


class OfferedTool(msgspec.Struct, kw_only=True, frozen=True):
    """A function that the model may ask for."""

    name: str
    type: str | None = None
    """Anything but `custom` is a tool that runs on Anthropic's servers, or whose schema is not told."""

    description: str | None = None
    input_schema: dict[str, Any] = {}


class ToolChoice(msgspec.Struct, kw_only=True, frozen=True):
    """Whether a tool must be called, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool = False
    """Keeps the first call of an answer only."""


class OutputFormat(msgspec.Struct, kw_only=True, frozen=True):
    """The answer is JSON that a schema accepts."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, kw_only=True, frozen=True):
    """What the answer looks like."""

    format: OutputFormat | None = None


class PromptRequest(msgspec.Struct, kw_only=True, frozen=True):
    """Body of `POST /v1/messages/count_tokens`: everything that makes the prompt."""

    model: Annotated[str, Meta(max_length=512)]
    messages: Annotated[tuple[InputMessage, ...], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: Content | None = None
    tools: Annotated[tuple[OfferedTool, ...], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None


class MessagesRequest(PromptRequest, kw_only=True, frozen=True):
    """Body of `POST /v1/messages`."""

    max_tokens: Annotated[int, Meta(ge=1)]
    stream: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    stop_sequences: Annotated[tuple[str, ...], Meta(max_length=MAX_STOP_TEXTS)] | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    """Older place of `output_config.format`."""
