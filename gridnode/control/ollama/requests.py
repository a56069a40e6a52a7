"""What clients of Ollama send. Fields that are not here are about Ollama's own machine, and ignored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to choose tokens, and limits. `None` is what Ollama takes if nobody says."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    tfs_z: float | None = None
    mirostat: int | None = None
    seed: int | None = None
    """Below 0 is any."""

    num_predict: int | None = None
    """New tokens at most; 0 or less is no limit."""

    num_ctx: int | None = None
    """Tokens of prompt and answer together, at most."""

    stop: tuple[str, ...] | str | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledFunction:
    """A function that the model wanted to have called."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call in a turn of the assistant."""

    function: CalledFunction
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str | None = None
    images: tuple[str, ...] | None = None
    tool_calls: tuple[Call, ...] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedFunction:
    """A function that the model may ask for."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedTool:
    """A tool that the model may ask for."""

    function: OfferedFunction
    type: str = "function"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """Body of `/api/show` and `/api/pull`."""

    model: str = ""
    name: str = ""
    """Older word for `model`."""

    stream: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest:
    """What `/api/chat` and `/api/generate` share."""

    model: str
    stream: bool | None = None
    format: Any = None
    """`json`, or a JSON schema."""

    options: Options | None = None
    think: bool | str | None = None
    keep_alive: float | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaChat(AnswerRequest):
    """Body of `/api/chat`."""

    messages: tuple[Message, ...] | None = None
    tools: tuple[OfferedTool, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaPrompt(AnswerRequest):
    """Body of `/api/generate`."""

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    """Continue the prompt as it stands, without the chat template."""

    suffix: str | None = None
    template: str | None = None
    context: tuple[int, ...] | None = None
    images: tuple[str, ...] | None = None
