"""Requests of `POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gridnode.control.answer_schema import (
    MAX_MESSAGES,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
    ChatMessage,
    GenerateRequest,
    ToolCall,
)
from gridnode.control.openai.content import Content, Text, content_text
from gridnode.control.openai.errors import BadField
from gridnode.control.openai.fields import FieldRules, Refused
from gridnode.control.openai.sampling_fields import HARMLESS, ChoiceFields
from gridnode.control.openai.tool_fields import (
    FormatName,
    FunctionFields,
    Name,
    SchemaFields,
    check_tool_choice,
    schema_text,
)

# The whole context would be leased on every hop for an answer of unknown length, and others would wait.
DEFAULT_MAX_TOKENS = 1024


class RequestFunctionCall(msgspec.Struct, kw_only=True, frozen=True):
    """A function and its arguments, a JSON object as text."""

    name: Name
    arguments: Text


class MessageToolCall(msgspec.Struct, kw_only=True, frozen=True):
    """A call in a turn of the assistant."""

    id: Annotated[str, Meta(max_length=128)]
    function: RequestFunctionCall
    type: Literal["function"] = "function"


class RequestMessage(msgspec.Struct, kw_only=True, frozen=True):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    """`developer` is what newer clients call `system`."""

    content: Content | None = None
    tool_calls: Annotated[tuple[MessageToolCall, ...], Meta(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Annotated[str, Meta(max_length=128)] = ""
    name: Annotated[str, Meta(max_length=128)] | None = None
    """In a turn of the role `tool`: what was called, if no call has the id. Names of people are not told."""


class ToolDefinition(msgspec.Struct, kw_only=True, frozen=True):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: FunctionFields


class NamedFunction(msgspec.Struct, kw_only=True, frozen=True):
    """The name of a function."""

    name: Name


class NamedTool(msgspec.Struct, kw_only=True, frozen=True):
    """The one tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class ResponseFormat(msgspec.Struct, kw_only=True, frozen=True):
    """What the answer looks like; kept by a grammar, not by hope."""

    type: FormatName
    json_schema: SchemaFields | None = None


class ChatRequest(ChoiceFields, kw_only=True, frozen=True):
    """Body of `POST /v1/chat/completions`."""

    messages: Annotated[tuple[RequestMessage, ...], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    """The older name of `max_completion_tokens`; without either, 1024."""

    logprobs: bool = False
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[tuple[ToolDefinition, ...], Meta(max_length=MAX_TOOLS)] = ()
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    parallel_tool_calls: bool = True
    """False keeps the first call of an answer only."""


CHAT_FIELDS = FieldRules(
    record=ChatRequest,
    # Wishes about effort, and hints that make OpenAI faster: models without them answer the same.
    ignored=HARMLESS | {"prediction", "reasoning_effort", "verbosity"},
    refused={
        "audio": Refused("the models of this swarm do not speak"),
        "function_call": Refused("it is out of use since 2023; use 'tool_choice'", ("auto", "none")),
        "functions": Refused("it is out of use since 2023; use 'tools'", ([],)),
        "modalities": Refused("the models of this swarm answer with text only", (["text"],)),
        "moderation": Refused("nobody moderates this swarm"),
        "web_search_options": Refused("this node does not search the web"),
    },
)


def chat_requests(wanted: ChatRequest, *, max_wait_s: float) -> tuple[GenerateRequest, ...]:
    """Return what the node is asked, once for each choice.

    Raises:
        BadField: fields contradict each other, or a message is not text.
    """
    tools = tuple(tool.function.tool() for tool in wanted.tools)
    choice = wanted.tool_choice if isinstance(wanted.tool_choice, str) else wanted.tool_choice.function.name
    shape = wanted.response_format or ResponseFormat(type="text")
    schema = shape.json_schema.schema if shape.json_schema else None
    if wanted.top_logprobs and not wanted.logprobs:
        raise BadField("'top_logprobs' needs 'logprobs' to be true", param="top_logprobs")
    seed = wanted.first_seed()
    messages = _messages(wanted.messages)
    return tuple(
        GenerateRequest(
            model=wanted.model,
            messages=messages,
            max_tokens=wanted.max_completion_tokens or wanted.max_tokens or DEFAULT_MAX_TOKENS,
            sampling=wanted.sampling(number, seed),
            stop=wanted.stop_texts,
            ignore_eos=wanted.ignore_eos,
            presence_penalty=wanted.presence_penalty,
            frequency_penalty=wanted.frequency_penalty,
            logit_bias=wanted.logit_bias,
            top_logprobs=(wanted.top_logprobs or 0) if wanted.logprobs else None,
            json_schema=schema_text(shape.type, schema, param="response_format"),
            tools=tools,
            tool_choice=check_tool_choice(choice, tools),
            max_wait_s=max_wait_s,
            routing=wanted.routing,
        )
        for number in range(wanted.n)
    )


def _messages(given: tuple[RequestMessage, ...]) -> tuple[ChatMessage, ...]:
    called = {call.id: call.function.name for message in given for call in message.tool_calls or ()}
    return tuple(
        ChatMessage(
            role="system" if message.role == "developer" else message.role,
            content=content_text(message.content, param=f"messages[{number}].content"),
            tool_calls=tuple(
                ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
                for call in message.tool_calls or ()
            ),
            tool_call_id=message.tool_call_id,
            name=_tool_name(message, called),
        )
        for number, message in enumerate(given)
    )


def _tool_name(message: RequestMessage, called: dict[str, str]) -> str:
    """Return what was called: templates want its name, and clients send its id only."""
    return called.get(message.tool_call_id, message.name or "") if message.role == "tool" else ""
