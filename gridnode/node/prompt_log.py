"""Prompts and answers in the log, for operators who ask for it. Nothing else in gridnode logs either."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from gridnode.control.answer_schema import AnswerEvent, Delta, GenerateRequest

logger = logging.getLogger("gridnode.node.prompts")


async def logged(
    request: GenerateRequest, events: AsyncGenerator[AnswerEvent, None]
) -> AsyncGenerator[AnswerEvent, None]:
    """Yield `events`; log what was asked before them, and behind them what was answered so far."""
    label = secrets.token_hex(4)  # several answers are written at once
    turns = [f"{message.role}: {message.content}" for message in request.messages]
    logger.info("%s asked: %s", label, one_line(turns or request.prompt or request.token_ids))
    pieces: list[str] = []
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Delta):
                    pieces.append(event.text)
                yield event
    finally:
        logger.info("%s answered: %s", label, one_line("".join(pieces)))


def log_texts(texts: Sequence[str]) -> None:
    """Log what vectors were asked for."""
    logger.info("embedded: %s", one_line(texts))


def one_line(said: object) -> str:
    """Return text of strangers as JSON, so that it cannot pass for lines of the log."""
    return json.dumps(said, ensure_ascii=False)
