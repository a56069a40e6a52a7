"""How long a token is on its way through the door: from a node that stamps its tokens to their reader."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import AsyncGenerator, Sequence
from multiprocessing.connection import Connection
from typing import cast

import msgspec
import numpy as np
from api_answers import DIALECTS, WARM_UP_TOKENS
from rich.console import Console
from rich.table import Table

from gridnode.control.answer_schema import AnswerEvent, Delta, Finished, GenerateRequest, HopStatus, Started
from gridnode.control.door_server import serve_door
from gridnode.control.interface import NodeControl
from gridnode.control.status_schema import NodeStatus
from gridnode.core.addresses import Address, parse_address

SPAWN = multiprocessing.get_context("spawn")
ANYWHERE = Address("127.0.0.1", 0)
# Slower than the door, so that no token waits for the one before.
STAMP_INTERVAL_S = 0.004


class StampingNode:
    """Says at which time it says it. Implements as much of `NodeControl` as answers need.

    Args:
        status: That of a real node, in JSON.
    """

    def __init__(self, status: bytes) -> None:
        self._status = msgspec.json.decode(status, type=NodeStatus)

    def status(self) -> NodeStatus:
        """Return what the real node said."""
        return self._status

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        """Answer with times of the clock that all processes of a computer share."""
        hop = HopStatus(peer_id="a" * 52, short="aaaaaaaa", public_name="", start=0, end=2)
        yield Started(model="bench", route=(hop,), prompt_tokens=1, context_tokens=request.max_tokens)
        for number in range(request.max_tokens):
            await asyncio.sleep(STAMP_INTERVAL_S)
            yield Delta(text=repr(time.perf_counter()), token_ids=(number,))
        yield Finished(
            reason="length",
            prompt_tokens=1,
            completion_tokens=request.max_tokens,
            ttft_s=0.0,
            decode_tokens_per_s=0.0,
            route=(hop,),
        )


def serve_stamps(pipe: Connection, status: bytes) -> None:
    """Serve a door over a `StampingNode` until the other end of `pipe` closes."""

    async def serve() -> None:
        async with serve_door(cast(NodeControl, StampingNode(status)), ANYWHERE) as door:
            pipe.send(str(door))
            await asyncio.to_thread(pipe.poll, None)

    asyncio.run(serve())


async def measure_delivery(status: NodeStatus, num_tokens: int) -> dict[str, list[float]]:
    """Return the milliseconds from saying a token to reading it, for each dialect."""
    ours, theirs = multiprocessing.Pipe()
    process = SPAWN.Process(target=serve_stamps, args=(theirs, msgspec.json.encode(status)))
    process.start()
    try:
        door = parse_address(await asyncio.to_thread(ours.recv))
        return {
            path: [(time.perf_counter() - float(text)) * 1e3 async for text in ask(door, num_tokens) if text][
                WARM_UP_TOKENS:
            ]
            for path, ask in DIALECTS.items()
        }
    finally:
        ours.send(None)
        process.join()


def percentiles(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} / {float(np.percentile(values, 99)):.2f}"


def show_delivery(console: Console, delivery: dict[str, list[float]]) -> None:
    """Print how long tokens are on their way."""
    table = Table(title="Milliseconds from a token in the node to its reader (p50 / p99)")
    table.add_column("")
    table.add_column("on the way", justify="right")
    for path, times_ms in delivery.items():
        table.add_row(path, percentiles(times_ms))
    console.print(table)
