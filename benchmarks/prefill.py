"""Time to the first token of a long prompt over three hops: `python benchmarks/prefill.py`.

The demo model, a prompt of 1024 tokens, one process and one thread for each hop. "Without" sends the prompt
in one piece, or the next chunk when the one before has come back; "with" sends them one behind the other, so
that all hops compute at once. Medians.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from pathlib import Path

from far_nodes import client, delay_links, far_nodes, thirds
from rich.console import Console
from rich.table import Table

from gridnode.control.answer_schema import Finished, GenerateRequest
from gridnode.node import lasting_session
from gridnode.node.node import Node

CHUNK_TOKENS = 128
UNDER_WAY = lasting_session.MAX_STEPS_UNDER_WAY


async def time_to_first_token(node: Node, num_tokens: int, chunk_tokens: int | None, under_way: int) -> float:
    """Return the seconds from a request to its first token."""
    lasting_session.MAX_STEPS_UNDER_WAY = under_way
    request = GenerateRequest(
        token_ids=tuple(100 + i * 7919 % 40000 for i in range(num_tokens)),
        max_tokens=1,
        prefill_chunk_tokens=chunk_tokens,
    )
    finished = [event async for event in node.generate(request) if isinstance(event, Finished)]
    return finished[0].ttft_s


async def measure(delay_s: float, directory: Path, *, repeats: int, num_tokens: int) -> dict[str, float]:
    """Return the medians of each way."""
    ways: dict[str, tuple[int | None, int]] = {
        "without: one piece": (num_tokens, 1),
        f"without: chunks of {CHUNK_TOKENS}, one at a time": (CHUNK_TOKENS, 1),
        "with: chunks of 256": (256, UNDER_WAY),
        "with: chunks that suit the route": (None, UNDER_WAY),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    with far_nodes(thirds(), directory, delay_s=delay_s) as port:
        async with client(directory / "client", port, num_nodes=3) as node:
            for round_number in range(repeats + 1):
                for way, (chunk_tokens, under_way) in ways.items():
                    took_s = await time_to_first_token(node, num_tokens, chunk_tokens, under_way)
                    if round_number:  # the first round warms up
                        found[way].append(took_s)
    return {way: statistics.median(times) for way, times in found.items()}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delays-ms", type=float, nargs="+", default=[0.0, 20.0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=1024)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    title = (
        f"First token of {arguments.tokens} over three hops on {cores} cores, load {os.getloadavg()[0]:.0f}"
    )
    table = Table(title=title)
    for column in ("link delay", "prompt", "seconds", "of one piece"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as scratch:
        for delay_ms in arguments.delays_ms:
            delay_links(delay_ms / 1000)
            found = asyncio.run(
                measure(
                    delay_ms / 1000,
                    Path(scratch) / f"{delay_ms:.0f}",
                    repeats=arguments.repeats,
                    num_tokens=arguments.tokens,
                )
            )
            whole_s = next(iter(found.values()))
            for way, took_s in found.items():
                table.add_row(f"{delay_ms:.0f} ms", way, f"{took_s:.2f}", f"{took_s / whole_s:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
