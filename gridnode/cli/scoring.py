"""Scoring the lines of a file: requests of some lines each, the next one under way before it is needed."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gridnode.cli.json_records import ScoredLine
from gridnode.cli.showing import print_json, printable, stderr, stdout
from gridnode.control.client import ControlClient
from gridnode.control.score_schema import ScoreRequest, TextScore
from gridnode.core.addresses import Address
from gridnode.core.route_wishes import RouteWishes
from gridnode.errors import BadInput, reason

# Lines of one request: enough to keep every hop busy, few enough that results come while one looks.
LINES_PER_REQUEST = 16
# One is computed while the answer to another is on its way, so that the swarm never waits.
REQUESTS_UNDER_WAY = 2
MAX_TEXT_CHARACTERS = 60

Line = tuple[int, str]
"""Its number, from 1, and its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """How a person wants lines to be judged."""

    model: str = ""
    answers: tuple[str, ...] = ()
    raw: bool = False
    routing: dict[str, Any] = field(default_factory=dict)
    """Fields of `RouteWishes`."""

    def request(self, texts: Sequence[str]) -> ScoreRequest:
        """Return the request to the node for some lines.

        Raises:
            BadInput: two wishes about the route exclude each other.
        """
        # A word behind a text begins with its space; behind a chat template nothing stands before it.
        answers = tuple(f" {answer}" if self.raw else answer for answer in self.answers)
        try:
            routing = RouteWishes(**self.routing)
        except ValueError as exc:
            raise BadInput(str(exc)) from exc
        return ScoreRequest(
            texts=tuple(texts), answers=answers, raw=self.raw, model=self.model, routing=routing
        )


async def score_lines(api: Address, lines: Sequence[Line], judging: Judging, *, as_json: bool) -> None:
    """Print the score of every line, and a summary of all.

    Raises:
        BadInput: some lines have no score; the others were printed.
        NotRunning: no node answers.
        GridError: the swarm cannot compute it.
    """
    began_at = asyncio.get_running_loop().time()
    total, num_tokens, problems = 0.0, 0, 0
    async with ControlClient(api) as client, aclosing(_scores(client, lines, judging)) as scores:
        async for (number, text), score in scores:
            problems += bool(score.problem)
            total, num_tokens = total + score.log_likelihood, num_tokens + score.num_tokens
            if as_json:
                print_json(_record(number, text, score))
            else:
                stdout().print(score_line(number, text, score), markup=False, soft_wrap=True)
    took_s = asyncio.get_running_loop().time() - began_at
    if num_tokens and not as_json:
        perplexity = "" if judging.answers else f", perplexity {math.exp(-total / num_tokens):.4g}"
        stderr().print(f"{len(lines)} lines, {num_tokens} tokens judged{perplexity}; {took_s:.1f} s")
    if problems:
        raise BadInput(f"{problems} of {len(lines)} lines have no score; each says why")


def read_lines(file: str) -> list[Line]:
    """Return the lines of `file` that are not empty; `-` is standard input.

    Raises:
        BadInput: it cannot be read as text, or there is none.
    """
    try:
        given = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = given.decode()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"cannot read {file}: {reason(exc)}") from exc
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise BadInput(f"{'standard input' if file == '-' else file} has no text; give one text a line")
    return [(number, line.removesuffix("\r")) for number, line in lines]


def score_line(number: int, text: str, score: TextScore) -> str:
    """Return what people read of one score."""
    line = printable(text).replace("\t", " ")
    shown = line if len(line) <= MAX_TEXT_CHARACTERS else f"{line[: MAX_TEXT_CHARACTERS - 1]}…"
    if score.problem:
        return f"line {number}: {score.problem}: {shown}"
    if score.answers:
        found = "  ".join(f"{each.answer.strip()} {each.probability:.3f}" for each in score.answers)
        return f"{found}  {shown}"
    return f"{score.log_likelihood:10.3f}  {score.log_likelihood / score.num_tokens:7.3f}/token  {shown}"


async def _scores(
    client: ControlClient, lines: Sequence[Line], judging: Judging
) -> AsyncGenerator[tuple[Line, TextScore], None]:
    """Yield the lines with their scores, in order."""
    room = asyncio.Semaphore(REQUESTS_UNDER_WAY)

    async def ask(some: Sequence[Line]) -> tuple[TextScore, ...]:
        async with room:
            return (await client.score(judging.request([text for _, text in some]))).scores

    pieces = [lines[i : i + LINES_PER_REQUEST] for i in range(0, len(lines), LINES_PER_REQUEST)]
    tasks = [asyncio.create_task(ask(piece)) for piece in pieces]
    try:
        for piece, task in zip(pieces, tasks, strict=True):
            for pair in zip(piece, await task, strict=True):
                yield pair
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _record(number: int, text: str, score: TextScore) -> ScoredLine:
    return ScoredLine(
        line=number,
        text=text,
        log_likelihood=None if score.problem else score.log_likelihood,
        num_tokens=score.num_tokens,
        answers={each.answer.strip(): each.probability for each in score.answers},
        problem=score.problem,
    )
