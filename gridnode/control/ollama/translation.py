"""From what clients of Ollama ask to what the node is asked."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

from gridnode.control.answer_schema import ChatMessage, GenerateRequest, Tool, ToolCall
from gridnode.control.door_request import check_request, decode_fields
from gridnode.control.ollama.names import swarm_name
from gridnode.control.ollama.requests import (
    AnswerRequest,
    Message,
    OfferedTool,
    OllamaChat,
    OllamaPrompt,
    Options,
)
from gridnode.core.sampling import SamplingParams
from gridnode.errors import BadInput

# Without a limit Ollama answers until the context ends. A session leases its cache in advance, and one
# that leased all of it would keep everybody else out; this is some pages of text.
UNSAID_MAX_TOKENS = 2048

# What Ollama takes if nobody says.
_TEMPERATURE = 0.8
_TOP_K = 40
_TOP_P = 0.9
_NO_OPTIONS = Options()


def chat_request(wanted: OllamaChat) -> GenerateRequest:
    """Return what `/api/chat` asks of the node.

    Raises:
        BadInput: something is asked that no model here does, or a value is outside its limits.
    """
    return _request(
        wanted,
        messages=tuple(_message(message) for message in wanted.messages or ()),
        tools=tuple(_tool(tool) for tool in wanted.tools or ()),
    )


def prompt_request(wanted: OllamaPrompt) -> GenerateRequest:
    """Return what `/api/generate` asks of the node.

    Raises:
        BadInput: as `chat_request`.
    """
    for name in ("suffix", "template", "context", "images"):
        if getattr(wanted, name):
            raise BadInput(f"{name!r} is not supported; leave it out")
    if wanted.raw:
        return _request(wanted, prompt=wanted.prompt or "")
    system = (ChatMessage(role="system", content=wanted.system),) if wanted.system else ()
    return _request(wanted, messages=(*system, ChatMessage(role="user", content=wanted.prompt or "")))


def _request(wanted: AnswerRequest, **content: Any) -> GenerateRequest:
    options = wanted.options or _NO_OPTIONS
    if wanted.think:
        raise BadInput(
            "the answer has no thinking apart from its text; leave 'think' out, or set it to false"
        )
    return check_request(
        GenerateRequest(
            model=swarm_name(wanted.model),
            max_tokens=max_tokens(options),
            sampling=_sampling(options),
            stop=(options.stop,)
            if isinstance(options.stop, str)
            else tuple(filter(None, options.stop or ())),
            presence_penalty=options.presence_penalty or 0.0,
            frequency_penalty=options.frequency_penalty or 0.0,
            json_schema=_schema(wanted.format),
            top_logprobs=(wanted.top_logprobs or 0) if wanted.logprobs else None,
            **content,
        )
    )


def max_tokens(options: Options) -> int:
    """Return how many new tokens `options` allow, the context aside."""
    wanted = options.num_predict or 0
    return wanted if wanted > 0 else UNSAID_MAX_TOKENS


def _sampling(options: Options) -> SamplingParams:
    for name, value in _without_effect(options):
        raise BadInput(f"the option {name!r} is not supported; leave it out, or set it to {value:g}")
    seed = -1 if options.seed is None else options.seed
    top_p = _TOP_P if options.top_p is None else options.top_p
    return decode_fields(
        {
            "temperature": _TEMPERATURE if options.temperature is None else options.temperature,
            "top_k": max(0, _TOP_K if options.top_k is None else options.top_k),
            # 0 is "the most probable token only" there.
            "top_p": min(max(top_p, 1e-6), 1.0),
            "repetition_penalty": 1.0 if options.repeat_last_n == 0 else (options.repeat_penalty or 1.0),
            "seed": secrets.randbits(63) if seed < 0 else seed,
        },
        SamplingParams,
    )


def _without_effect(options: Options) -> Iterator[tuple[str, float]]:
    """Yield the options that ask for what the sampler does not do, with the values that ask for nothing."""
    neutral = {"mirostat": (0,), "min_p": (0.0,), "typical_p": (1.0, 0.0), "tfs_z": (1.0, 0.0)}
    for name, values in neutral.items():
        if getattr(options, name) not in (None, *values):
            yield name, values[0]


def _schema(wanted: Any) -> str:
    if not wanted:
        return ""
    if wanted == "json":
        return '{"type":"object"}'
    if isinstance(wanted, dict):
        return json.dumps(wanted)
    raise BadInput(f"the format must be 'json' or a JSON schema, got {str(wanted)[:64]!r}")


def _message(message: Message) -> ChatMessage:
    if message.images:
        raise BadInput("the models of this node read no images; leave 'images' out")
    calls = tuple(
        # Ollama's calls have an order and, in older clients, no name.
        ToolCall(
            id=call.id or f"call_{index}",
            name=call.function.name,
            arguments=json.dumps(call.function.arguments, ensure_ascii=False),
        )
        for index, call in enumerate(message.tool_calls or ())
    )
    return ChatMessage(
        role=message.role,
        content=message.content or "",
        tool_calls=calls,
        tool_call_id=message.tool_call_id or "",
        name=message.tool_name or "",
    )


def _tool(tool: OfferedTool) -> Tool:
    function = tool.function
    return Tool(
        name=function.name, description=function.description or "", parameters=function.parameters or {}
    )
