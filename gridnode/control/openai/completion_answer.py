"""Answers of `POST /v1/completions`, whole and in chunks."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from gridnode.control.answer_figures import AnswerFigures
from gridnode.control.answer_schema import Delta, Finished, Started
from gridnode.control.collected_answer import CollectedAnswer
from gridnode.control.openai.logprobs import TextLogprobs, text_logprobs
from gridnode.control.openai.streaming import ChunkEncoder
from gridnode.control.openai.usage import Usage, usage_of


class TextChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One of the answers, or news of it."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None = None
    logprobs: TextLogprobs | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/completions`, and each event of its stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | UnsetType = UNSET
    gridnode: AnswerFigures | UnsetType = UNSET
    """Route, times and bytes; of the first choice, if there are several."""


def whole_completion(answers: Sequence[CollectedAnswer], choices_per_prompt: int) -> Completion:
    """Return the answers to all prompts."""
    first = answers[0]
    finished = [answer.finished for answer in answers]
    return Completion(
        id=_new_id(),
        created=int(time.time()),
        model=first.started.model,
        choices=[
            TextChoice(
                index=index,
                text=answer.text,
                finish_reason=_reason(answer.finished),
                logprobs=text_logprobs(answer.logprobs, offset=0) if answer.logprobs else None,
            )
            for index, answer in enumerate(answers)
        ],
        usage=usage_of(finished, choices_per_prompt=choices_per_prompt),
        gridnode=first.figures,
    )


class CompletionEncoder(ChunkEncoder):
    """Writes completions as chunks."""

    def __init__(self, *, choices_per_prompt: int, wants_usage: bool) -> None:
        super().__init__(choices_per_prompt=choices_per_prompt, wants_usage=wants_usage)
        self._id = _new_id()
        self._created = int(time.time())
        self._model = ""
        self._offsets: dict[int, int] = defaultdict(int)

    def begin(self, choice: int, started: Started) -> Iterable[Completion]:
        """Say nothing yet."""
        self._model = started.model
        return ()

    def go_on(self, choice: int, delta: Delta) -> Iterable[Completion]:
        """Pass text and logprobs on; the first part of a character waits for the rest."""
        if delta.text or delta.logprobs:
            told = text_logprobs(delta.logprobs, offset=self._offsets[choice]) if delta.logprobs else None
            self._offsets[choice] += sum(len(item.chosen.text) for item in delta.logprobs)
            yield self._chunk([TextChoice(index=choice, text=delta.text, logprobs=told)])

    def finish(self, choice: int, finished: Finished) -> Iterable[Completion]:
        """Say why the answer ends."""
        yield self._chunk([TextChoice(index=choice, text="", finish_reason=_reason(finished))])

    def sum_up(self, usage: Usage, figures: AnswerFigures) -> Completion:
        """Return the chunk without choices."""
        return Completion(
            id=self._id, created=self._created, model=self._model, choices=[], usage=usage, gridnode=figures
        )

    def _chunk(self, choices: list[TextChoice]) -> Completion:
        return Completion(id=self._id, created=self._created, model=self._model, choices=choices)


def _reason(finished: Finished) -> Literal["stop", "length"]:
    return "length" if finished.reason == "length" else "stop"


def _new_id() -> str:
    return f"cmpl-{secrets.token_hex(12)}"
