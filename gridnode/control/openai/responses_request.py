"""Requests of `POST /v1/responses`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gridnode.control.answer_schema import (
    MAX_MESSAGES,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
    ChatMessage,
    GenerateRequest,
)
from gridnode.control.openai.chat_request import DEFAULT_MAX_TOKENS
from gridnode.control.openai.content import Text
from gridnode.control.openai.errors import BadField
from gridnode.control.openai.fields import FieldRules, Refused
from gridnode.control.openai.response_items import InputItem, item_messages
from gridnode.control.openai.sampling_fields import HARMLESS, SamplingFields
from gridnode.control.openai.tool_fields import (
    FormatName,
    FunctionFields,
    Name,
    check_tool_choice,
    schema_text,
)

_LOGPROBS = "message.output_text.logprobs"


class FunctionTool(FunctionFields, kw_only=True, frozen=True):
    """A tool; functions are the only kind."""

    type: Literal["function"] = "function"


class NamedTool(msgspec.Struct, kw_only=True, frozen=True):
    """The one tool that must be called."""

    name: Name
    type: Literal["function"] = "function"


class TextFormat(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What the answer looks like; kept by a grammar, not by hope."""

    type: FormatName
    schema: dict[str, Any] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class TextFields(msgspec.Struct, kw_only=True, frozen=True):
    """How the text of the answer looks."""

    format: TextFormat | None = None
    verbosity: str | None = None
    """A wish that changes nothing."""


class ResponseRequest(SamplingFields, kw_only=True, frozen=True):
    """Body of `POST /v1/responses`."""

    input: Text | Annotated[tuple[InputItem, ...], Meta(min_length=1, max_length=MAX_MESSAGES)]
    """What the user says, or the whole conversation: nothing is remembered here."""

    instructions: Text | None = None
    """Stands before the conversation."""

    max_output_tokens: Annotated[int, Meta(ge=1)] = DEFAULT_MAX_TOKENS
    text: TextFields | None = None
    tools: Annotated[tuple[FunctionTool, ...], Meta(max_length=MAX_TOOLS)] = ()
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    parallel_tool_calls: bool = True
    """False keeps the first call of an answer only."""

    include: tuple[str, ...] = ()
    """`message.output_text.logprobs` tells logprobs; the rest concerns tools that do not exist here."""

    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    """Comes back as it is."""

    @property
    def text_format(self) -> TextFormat:
        """What the answer looks like."""
        return (self.text and self.text.format) or TextFormat(type="text")

    @property
    def max_calls(self) -> int:
        """Calls to pass on of the answer."""
        return MAX_TOOLS if self.parallel_tool_calls else 1

    @property
    def wanted_logprobs(self) -> int | None:
        """How many of the most probable tokens to tell beside each chosen one; None tells no logprobs."""
        return (self.top_logprobs or 0) if _LOGPROBS in self.include else self.top_logprobs or None


_NOT_KEPT = "nothing is kept here; send the whole conversation as 'input'"

RESPONSE_FIELDS = FieldRules(
    record=ResponseRequest,
    ignored=(HARMLESS - {"metadata"}) | {"max_tool_calls", "reasoning", "stream_options"},
    refused={
        "background": Refused("answers are given while you wait; use 'stream'"),
        "context_management": Refused(_NOT_KEPT, ([],)),
        "conversation": Refused(_NOT_KEPT),
        "moderation": Refused("nobody moderates this swarm"),
        "previous_response_id": Refused(_NOT_KEPT),
        "prompt": Refused("prompts are not kept here; send them as 'instructions' and 'input'"),
        "truncation": Refused("a conversation is never cut; shorten it", ("disabled",)),
    },
)


def response_request(wanted: ResponseRequest, *, max_wait_s: float) -> GenerateRequest:
    """Return what the node is asked.

    Raises:
        BadField: fields contradict each other, or an item cannot be used.
    """
    tools = tuple(tool.tool() for tool in wanted.tools)
    choice = wanted.tool_choice if isinstance(wanted.tool_choice, str) else wanted.tool_choice.name
    shape = wanted.text_format
    return GenerateRequest(
        model=wanted.model,
        messages=_messages(wanted),
        max_tokens=wanted.max_output_tokens,
        sampling=wanted.sampling(0, wanted.first_seed()),
        top_logprobs=wanted.wanted_logprobs,
        json_schema=schema_text(shape.type, shape.schema, param="text.format"),
        tools=tools,
        tool_choice=check_tool_choice(choice, tools),
        max_wait_s=max_wait_s,
        routing=wanted.routing,
    )


def _messages(wanted: ResponseRequest) -> tuple[ChatMessage, ...]:
    if not wanted.input:
        raise BadField("'input' is empty", param="input")
    instructions = (ChatMessage(role="system", content=wanted.instructions),) if wanted.instructions else ()
    if isinstance(wanted.input, str):
        return (*instructions, ChatMessage(role="user", content=wanted.input))
    return (*instructions, *item_messages(wanted.input))
