"""Answers that something happens to in the middle."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from gridnode.control.answer_schema import Delta, Finished, GenerateRequest, Rerouted, Started, Waiting
from gridnode.core.sampling import SamplingParams
from gridnode.node.node import Node

PROMPT = (1, 2, 3)
# Long enough that an answer is still under way when the signal arrives.
NUM_TOKENS = 900
SAMPLED = SamplingParams(temperature=1.0, seed=5)


async def answer_while(
    node: Node,
    sampling: SamplingParams,
    disturb_after: int,
    disturb: Callable[[Started], object],
    *,
    waits: list[Waiting] | None = None,
    **fields: object,
) -> tuple[list[int], int, Finished]:
    """Return tokens, reroutes seen and the end of an answer; call `disturb` after some tokens.

    Args:
        waits: Takes the times when the answer had to wait.
        fields: Of the request.
    """
    request = GenerateRequest(
        token_ids=PROMPT,
        max_tokens=NUM_TOKENS,
        sampling=sampling,
        ignore_eos=True,
        **fields,  # type: ignore[arg-type]
    )
    token_ids: list[int] = []
    reroutes = 0
    started: Started | None = None
    finished: Finished | None = None
    async with contextlib.aclosing(node.generate(request)) as events:
        async for event in events:
            if isinstance(event, Delta):
                token_ids.extend(event.token_ids)
                if len(token_ids) == disturb_after and started is not None:
                    disturb(started)
                    await asyncio.sleep(0)
            elif isinstance(event, Started):
                started = event
            elif isinstance(event, Waiting) and waits is not None:
                waits.append(event)
            elif isinstance(event, Rerouted):
                reroutes += 1
            elif isinstance(event, Finished):
                finished = event
    assert finished is not None
    return token_ids, reroutes, finished
