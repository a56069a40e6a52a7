"""Many answers through the door at once: none may be lost, and no token."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from api_answers import DIALECTS, Ask
from rich.console import Console

from gridnode.control.client import ControlClient
from gridnode.core.addresses import Address


@dataclass
class Tally:
    """What many readers of one dialect received."""

    answers: int = 0
    tokens: int = 0
    took_s: float = 0.0
    """Until the last answer that began in time had ended."""

    texts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


async def read_until(deadline: float, ask: Ask, door: Address, num_tokens: int, tally: Tally) -> None:
    """Ask again and again; every answer is read to its end."""
    while time.monotonic() < deadline:
        try:
            pieces = [piece async for piece in ask(door, num_tokens)]
        except Exception as exc:  # noqa: BLE001 - whatever it is, an answer is lost and counted
            tally.failures[f"{type(exc).__name__}: {exc}"[:100]] += 1
            continue
        tally.answers += 1
        tally.tokens += len(pieces)
        tally.texts["".join(pieces)] += 1


async def measure_streams(
    hop: Address, door: Address, path: str, *, streams: int, seconds: float, num_tokens: int
) -> tuple[Tally, int]:
    """Return what the readers had, and the tokens that the hop computed for answers meanwhile."""
    tally = Tally()
    async with ControlClient(hop) as client:
        before = (await client.status()).computed_answer_tokens
        started_at = time.monotonic()
        deadline = started_at + seconds
        await asyncio.gather(
            *(read_until(deadline, DIALECTS[path], door, num_tokens, tally) for _ in range(streams))
        )
        tally.took_s = time.monotonic() - started_at
        return tally, (await client.status()).computed_answer_tokens - before


def show_tally(console: Console, path: str, tally: Tally, computed: int, *, num_tokens: int) -> None:
    """Print what arrived and what is missing."""
    # The first token of an answer comes from its prompt, so that the hop computes one step less.
    received = tally.tokens - tally.answers
    missing = tally.answers * num_tokens - tally.tokens
    console.print(
        f"{path}: {tally.answers} answers, {tally.tokens} tokens ({tally.tokens / tally.took_s:.0f} per s); "
        f"{missing} tokens missing, {sum(tally.failures.values())} answers failed, "
        f"{computed - received} steps of the hop without a reader, {len(tally.texts)} different texts"
    )
    for failure, count in tally.failures.most_common(5):
        console.print(f"  {count} x {failure}", markup=False)
