"""What the HTTP door costs per token, and whether it loses any: `python benchmarks/api.py`.

A daemon serves a small random model, and a second one without blocks is asked over HTTP:

1. Time per token of a bare session from this process through the same hop, and of answers read from the
   door, in turns. The difference is what the door adds: text, events, HTTP and reading them.
2. From the moment that a token is there to the moment that a reader has it, with a door over a node that
   stamps its tokens, one every few milliseconds.
3. Many answers at once for a minute. Tokens received are compared with what each answer says it had, and
   with what the hop says it computed; and the answers, which are all to the same question, with each other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from api_answers import DIALECTS, WARM_UP_TOKENS, Ask, daemon, make_model
from api_delivery import SPAWN, measure_delivery, show_delivery
from api_streams import measure_streams, show_tally
from rich.console import Console
from rich.table import Table

from gridnode.config import NodeConfig
from gridnode.control.client import ControlClient
from gridnode.core.addresses import Address, parse_address
from gridnode.core.routing import Hop, Route
from gridnode.core.sampling import GREEDY
from gridnode.node.node import Node
from gridnode.node.remote_session import RemoteSession, SessionPlan
from gridnode.wire.messages import StepKind
from gridnode.wire.tensors import TensorHeader

BARE = "bare session"
AIM_MS = 1.0
ANYWHERE = Address("127.0.0.1", 0)
BLOCKS = 4
BLOCK_ROUNDS = 6


@contextlib.asynccontextmanager
async def client_node(state_dir: Path, hop: Address) -> AsyncIterator[Node]:
    """Run a node without blocks in this process, once it knows the hop."""
    node = Node(NodeConfig(listen=ANYWHERE, join=(hop,), state_dir=state_dir, swarm="bench", mdns=False))
    running = asyncio.create_task(node.run())
    try:
        async with asyncio.timeout(60):
            await node.wait_until(lambda swarm: any(p.announcement.serving for p in swarm.peers.values()))
        yield node
    finally:
        running.cancel()
        await asyncio.wait([running])


async def time_session(node: Node, num_tokens: int) -> list[float]:
    """Return the milliseconds per token of a bare session, the last hop choosing tokens."""
    serving_peer = next(p.announcement for p in node.swarm.peers.values() if p.announcement.serving)
    serving = serving_peer.serving
    assert serving is not None
    route = Route((Hop(serving_peer.peer_id, serving.span),))
    plan = SessionPlan(model=serving.model, route=route, max_tokens=num_tokens, sampling=GREEDY)
    token = np.array([[7]], dtype="<i4").tobytes()
    times_ms = []
    addresses = {serving_peer.peer_id: serving_peer.addresses}
    async with RemoteSession(node.links, plan, addresses=addresses) as session:
        for position in range(num_tokens):
            started_at = time.perf_counter()
            outcome = await session.step(
                token, TensorHeader("int32", (1, 1)), position=position, kind=StepKind.DECODE, output="token"
            )
            token = outcome.body
            times_ms.append((time.perf_counter() - started_at) * 1e3)
    return times_ms[WARM_UP_TOKENS:]


async def time_answer(ask: Ask, door: Address, num_tokens: int) -> list[float]:
    """Return the milliseconds between the tokens of an answer, as its reader sees them."""
    arrived_at = [time.perf_counter() async for _ in ask(door, num_tokens)]
    return list(np.diff(arrived_at)[WARM_UP_TOKENS:] * 1e3)


@dataclass(frozen=True)
class Round:
    """One answer or session, in milliseconds per token."""

    p50_ms: float
    mean_ms: float

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Round:
        return cls(statistics.median(times_ms), statistics.fmean(times_ms))


async def measure_added(node: Node, door: Address, num_tokens: int) -> dict[str, list[Round]]:
    """Return the rounds of the bare session and of each dialect, which take turns in blocks."""
    rounds: dict[str, list[Round]] = {BARE: [], **{path: [] for path in DIALECTS}}
    for _ in range(BLOCKS):
        for what, measured in rounds.items():
            for number in range(BLOCK_ROUNDS):
                if what == BARE:
                    found = Round.of(await time_session(node, num_tokens))
                else:
                    found = Round.of(await time_answer(DIALECTS[what], door, num_tokens))
                if number:  # the first one finds links and caches that were idle
                    measured.append(found)
    return rounds


def show_added(console: Console, rounds: dict[str, list[Round]]) -> None:
    """Print what the door adds: at the median, and in the rounds that other programs disturbed least."""
    table = Table(title=f"Milliseconds per token, {len(rounds[BARE])} rounds")
    for column in ("", "p50", "added", "quietest round", "added"):
        table.add_column(column, justify="right" if column else "left")
    bare = rounds[BARE]
    quiet_ms = min(r.mean_ms for r in bare)
    table.add_row(BARE, f"{statistics.median(r.p50_ms for r in bare):.2f}", "", f"{quiet_ms:.2f}", "")
    for path in DIALECTS:
        p50_ms = statistics.median(r.p50_ms for r in rounds[path])
        added_ms = p50_ms - statistics.median(r.p50_ms for r in bare)
        mean_ms = min(r.mean_ms for r in rounds[path])
        table.add_row(path, f"{p50_ms:.2f}", f"{added_ms:.2f}", f"{mean_ms:.2f}", f"{mean_ms - quiet_ms:.2f}")
    console.print(table)
    console.print(f"the aim is less than {AIM_MS:g} ms")


async def measure(
    console: Console, directory: Path, hop: dict[str, Any], door: Address, options: argparse.Namespace
) -> None:
    """Run the three measurements and print each."""
    async with ControlClient(door) as client:
        await client.wait_ready(timeout_s=120)
        status = await client.status()
    async with client_node(directory / "client", parse_address(hop["listen"])) as node:
        show_added(console, await measure_added(node, door, options.tokens + WARM_UP_TOKENS))
    show_delivery(console, await measure_delivery(status, options.tokens + WARM_UP_TOKENS))
    for path in DIALECTS:
        tally, computed = await measure_streams(
            parse_address(hop["api"]),
            door,
            path,
            streams=options.streams,
            seconds=options.seconds,
            num_tokens=options.answer_tokens,
        )
        show_tally(console, path, tally, computed, num_tokens=options.answer_tokens)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100, help="timed tokens per answer and round")
    parser.add_argument("--streams", type=int, default=64, help="answers at the same time")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long they go on, per dialect")
    parser.add_argument("--answer-tokens", type=int, default=100, help="tokens of each of those answers")
    options = parser.parse_args()
    cache_tokens = str(options.streams * (options.answer_tokens + 64) + 2048)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        making = SPAWN.Process(target=make_model, args=(directory / "bench",))
        making.start()
        making.join()
        serving = ("--model", str(directory / "bench"), "--quantize", "none", "--executor", "torch")
        limits = ("--threads", "1", "--cache-tokens", cache_tokens)
        with (
            daemon(directory / "hop", *serving, *limits) as hop,
            daemon(directory / "door", "--join", hop["listen"]) as asked,
        ):
            asyncio.run(measure(Console(), directory, hop, parse_address(asked["api"]), options))


if __name__ == "__main__":
    main()
