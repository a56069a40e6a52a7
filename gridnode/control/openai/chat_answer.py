"""Answers of `POST /v1/chat/completions`, whole and in chunks."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from gridnode.control.answer_figures import AnswerFigures
from gridnode.control.answer_schema import ChosenLogprob, Delta, Finished, Started, ToolCall
from gridnode.control.collected_answer import CollectedAnswer
from gridnode.control.openai.logprobs import ChatLogprobs, token_logprobs
from gridnode.control.openai.streaming import ChunkEncoder
from gridnode.control.openai.usage import Usage, usage_of

FinishReason = Literal["stop", "length", "tool_calls"]


class CalledFunction(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model wants to have called."""

    name: str
    arguments: str
    """A JSON object as text."""


class AnswerToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the model wants; `index` tells calls of a stream apart."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"
    index: int | UnsetType = UNSET


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The turn of the assistant."""

    content: str | None
    """null, if the model said nothing and wants functions called."""

    role: Literal["assistant"] = "assistant"
    refusal: None = None
    tool_calls: list[AnswerToolCall] | UnsetType = UNSET


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One of the answers."""

    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: ChatLogprobs | None


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    gridnode: AnswerFigures
    """Route, times and bytes; of the first choice, if there are several."""


class ChatDelta(msgspec.Struct, frozen=True, kw_only=True):
    """What is new. Fields without news are left out: some clients choke on null."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: list[AnswerToolCall] | UnsetType = UNSET


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """News of one of the answers."""

    index: int
    delta: ChatDelta
    finish_reason: FinishReason | None = None
    logprobs: ChatLogprobs | UnsetType = UNSET


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream; the last one may have `usage` and no choices."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType = UNSET
    gridnode: AnswerFigures | UnsetType = UNSET


def whole_chat(answers: Sequence[CollectedAnswer], *, max_calls: int) -> ChatCompletion:
    """Return the answers to one conversation; of their calls, the first `max_calls` each."""
    first = answers[0]
    return ChatCompletion(
        id=_new_id(),
        created=int(time.time()),
        model=first.started.model,
        choices=[_choice(index, answer, max_calls) for index, answer in enumerate(answers)],
        usage=usage_of([answer.finished for answer in answers], choices_per_prompt=len(answers)),
        gridnode=first.figures,
    )


def _choice(index: int, answer: CollectedAnswer, max_calls: int) -> ChatChoice:
    calls = [_call(call) for call in answer.finished.tool_calls[:max_calls]]
    return ChatChoice(
        index=index,
        message=AnswerMessage(
            content=None if calls and not answer.text else answer.text, tool_calls=calls or UNSET
        ),
        finish_reason=answer.finished.reason,
        logprobs=ChatLogprobs(content=token_logprobs(answer.logprobs)) if answer.logprobs else None,
    )


class ChatEncoder(ChunkEncoder):
    """Writes chat completions as chunks.

    Args:
        max_calls: Calls to pass on of each answer.
    """

    def __init__(self, *, num_choices: int, wants_usage: bool, max_calls: int) -> None:
        super().__init__(choices_per_prompt=num_choices, wants_usage=wants_usage)
        self._max_calls = max_calls
        self._id = _new_id()
        self._created = int(time.time())
        self._model = ""

    def begin(self, choice: int, started: Started) -> Iterable[ChatChunk]:
        """Say who speaks."""
        self._model = started.model
        yield self._chunk(choice, ChatDelta(role="assistant", content=""))

    def go_on(self, choice: int, delta: Delta) -> Iterable[ChatChunk]:
        """Pass text and logprobs on; the first part of a character waits for the rest."""
        if delta.text or delta.logprobs:
            yield self._chunk(choice, ChatDelta(content=delta.text), logprobs=delta.logprobs)

    def finish(self, choice: int, finished: Finished) -> Iterable[ChatChunk]:
        """Say what to call, and why the answer ends."""
        for index, call in enumerate(finished.tool_calls[: self._max_calls]):
            yield self._chunk(choice, ChatDelta(tool_calls=[_call(call, index)]))
        yield self._chunk(choice, ChatDelta(), reason=finished.reason)

    def sum_up(self, usage: Usage, figures: AnswerFigures) -> ChatChunk:
        """Return the chunk without choices."""
        return ChatChunk(
            id=self._id, created=self._created, model=self._model, choices=[], usage=usage, gridnode=figures
        )

    def _chunk(
        self,
        choice: int,
        delta: ChatDelta,
        *,
        reason: FinishReason | None = None,
        logprobs: Sequence[ChosenLogprob] = (),
    ) -> ChatChunk:
        told = ChatLogprobs(content=token_logprobs(logprobs)) if logprobs else UNSET
        news = ChunkChoice(index=choice, delta=delta, finish_reason=reason, logprobs=told)
        return ChatChunk(id=self._id, created=self._created, model=self._model, choices=[news])


def _call(call: ToolCall, index: int | UnsetType = UNSET) -> AnswerToolCall:
    function = CalledFunction(name=call.name, arguments=call.arguments)
    return AnswerToolCall(id=call.id, function=function, index=index)


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"
