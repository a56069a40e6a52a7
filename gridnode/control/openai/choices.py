"""Several answers to one question at the same time, each in a session of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from gridnode.control.answer_schema import AnswerEvent, GenerateRequest
from gridnode.control.collected_answer import AnswerCollector, CollectedAnswer
from gridnode.control.interface import NodeControl

# A reader who is slower than the answers slows them down.
_MAX_QUEUED_EVENTS = 16


@dataclass(frozen=True, slots=True)
class ChoiceEvent:
    """An event of the answer number `choice`."""

    choice: int
    event: AnswerEvent


Choices = AsyncGenerator[ChoiceEvent, None]
_Queue = asyncio.Queue[ChoiceEvent | Exception | None]


async def run_choices(control: NodeControl, requests: Sequence[GenerateRequest]) -> Choices:
    """Answer all `requests` at once; yield their events as they come.

    Closing the generator cancels every answer.

    Raises:
        GridError: what ended the first answer that failed; the others are cancelled.
    """
    if len(requests) == 1:
        async with contextlib.aclosing(control.generate(requests[0])) as events:
            async for event in events:
                yield ChoiceEvent(0, event)
        return
    queue: _Queue = asyncio.Queue(_MAX_QUEUED_EVENTS)
    # Awaited below, however this generator ends.
    tasks = [
        asyncio.create_task(_follow(number, control.generate(request), queue), name=f"choice-{number}")
        for number, request in enumerate(requests)
    ]
    try:
        num_running = len(tasks)
        while num_running:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                num_running -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _follow(number: int, answer: AsyncGenerator[AnswerEvent, None], queue: _Queue) -> None:
    try:
        async with contextlib.aclosing(answer) as events:
            async for event in events:
                await queue.put(ChoiceEvent(number, event))
    except Exception as exc:  # noqa: BLE001 - whoever reads the queue raises it
        await queue.put(exc)
    else:
        await queue.put(None)


async def collect_choices(choices: Choices, num_choices: int) -> list[CollectedAnswer]:
    """Return the whole answers and close `choices`. Cancelling is safe and cancels the answers.

    Raises:
        GridError: what ended an answer.
    """
    collectors = [AnswerCollector() for _ in range(num_choices)]
    async with contextlib.aclosing(choices):
        async for item in choices:
            collectors[item.choice].add(item.event)
    return [collector.answer() for collector in collectors]
