"""An answer as a whole: for the dialects, when nobody wants a stream."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from gridnode.control.answer_figures import AnswerFigures, answer_figures
from gridnode.control.answer_schema import AnswerEvent, ChosenLogprob, Delta, Finished, Started
from gridnode.errors import ConnectionClosed


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedAnswer:
    """Everything that the events of one answer said."""

    started: Started
    text: str
    logprobs: tuple[ChosenLogprob, ...]
    """One for each token, if they were asked for."""

    finished: Finished

    @property
    def figures(self) -> AnswerFigures:
        """What it cost and which way it took."""
        return answer_figures(self.started, self.finished)


class AnswerCollector:
    """Puts an answer together from its events."""

    def __init__(self) -> None:
        self._started: Started | None = None
        self._finished: Finished | None = None
        self._texts: list[str] = []
        self._logprobs: list[ChosenLogprob] = []

    def add(self, event: AnswerEvent) -> None:
        """Take the next event."""
        if isinstance(event, Delta):
            self._texts.append(event.text)
            self._logprobs.extend(event.logprobs)
        elif isinstance(event, Started):
            self._started = event
        elif isinstance(event, Finished):
            self._finished = event

    def answer(self) -> CollectedAnswer:
        """Return the answer, once its last event came.

        Raises:
            ConnectionClosed: the events ended before the answer did.
        """
        if self._started is None or self._finished is None:
            raise ConnectionClosed("the answer broke off before its end")
        return CollectedAnswer(
            started=self._started,
            text="".join(self._texts),
            logprobs=tuple(self._logprobs),
            finished=self._finished,
        )


async def collect_answer(events: AsyncGenerator[AnswerEvent, None]) -> CollectedAnswer:
    """Return the whole answer and close `events`. Cancelling is safe and cancels the answer.

    Raises:
        GridError: what ended the answer.
    """
    collector = AnswerCollector()
    async with contextlib.aclosing(events):
        async for event in events:
            collector.add(event)
    return collector.answer()
