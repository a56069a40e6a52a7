"""Tokens per second with drafts and without, over slow links: `python benchmarks/speculative.py`.

The demo model on three hops, processes with one thread each; every link, also that of the client, takes 0, 20
and 100 ms one way. Two texts: one that is repeated (what n-grams are for), and an open question. The draft
model is the demo model itself in 4 bits: no smaller one with its tokens ships, so that its drafts are better
and slower than those of a real one. Medians. Each answer is compared with the plain one, token by token.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from far_nodes import client, delay_links, demo_model, far_nodes, thirds
from rich.console import Console
from rich.table import Table

from gridnode.control.answer_schema import ChatMessage, Delta, Finished, GenerateRequest
from gridnode.core.sampling import GREEDY, SamplingParams
from gridnode.node.node import Node

QUOTED = (
    "def area(width, height):\n    return width * height\n\n\ndef volume(width, height, depth):\n"
    "    return area(width, height) * depth\n"
)
TEXTS = {
    "repeated": f"Repeat this code exactly, and nothing else:\n\n{QUOTED}",
    "open": "Tell me a story about a lighthouse keeper and a storm.",
}
SAMPLED = SamplingParams(temperature=0.8, top_p=0.95, seed=7)


@dataclass(frozen=True)
class Measured:
    """One answer."""

    token_ids: tuple[int, ...]
    finished: Finished


async def ask(node: Node, text: str, sampling: SamplingParams, drafts: str, max_tokens: int) -> Measured:
    """Return one answer of `node`."""
    request = GenerateRequest(
        messages=(ChatMessage(role="user", content=text),),
        sampling=sampling,
        max_tokens=max_tokens,
        drafts=drafts,  # type: ignore[arg-type] # one of two
        ignore_eos=True,
    )
    token_ids: list[int] = []
    async with contextlib.aclosing(node.generate(request)) as events:
        async for event in events:
            if isinstance(event, Delta):
                token_ids.extend(event.token_ids)
            elif isinstance(event, Finished):
                return Measured(tuple(token_ids), event)
    raise AssertionError("an answer has an end")


async def measure(delay_s: float, table: Table, directory: Path, *, repeats: int, max_tokens: int) -> None:
    """Add the lines of one delay to `table`."""
    with far_nodes(demo_model(), thirds(), directory, delay_s=delay_s) as port:
        async with contextlib.AsyncExitStack() as stack:
            plain = await stack.enter_async_context(client(directory / "plain", port, num_nodes=3))
            drafting = await stack.enter_async_context(
                client(directory / "drafting", port, num_nodes=3, draft_model=str(demo_model()))
            )
            ways = {"plain": (plain, "off"), "n-grams": (plain, "auto"), "draft model": (drafting, "auto")}
            for name, text in TEXTS.items():
                for sampling in (GREEDY, SAMPLED):
                    found: dict[str, list[Measured]] = {way: [] for way in ways}
                    for _ in range(repeats):
                        for way, (node, drafts) in ways.items():
                            found[way].append(await ask(node, text, sampling, drafts, max_tokens))
                    kind = "greedy" if sampling.is_greedy else "sampled"
                    add_lines(table, f"{delay_s * 1000:.0f} ms", f"{name}, {kind}", found)


def add_lines(table: Table, delay: str, what: str, found: dict[str, list[Measured]]) -> None:
    """Add one line for each way."""
    speeds = {
        way: statistics.median(one.finished.decode_tokens_per_s for one in answers)
        for way, answers in found.items()
    }
    for way, answers in found.items():
        ends = [one.finished for one in answers]
        laps = sum(end.laps for end in ends)
        cells = (
            delay,
            what,
            way,
            f"{speeds[way]:.1f}",
            f"{speeds[way] / speeds['plain']:.2f}",
            f"{sum(end.completion_tokens - 1 for end in ends) / laps:.2f}",
            f"{sum(e.accepted_draft_tokens for e in ends)}/{sum(e.draft_tokens for e in ends)}",
            "yes" if {one.token_ids for one in answers} == {found["plain"][0].token_ids} else "NO",
        )
        table.add_row(*cells)
        print("\t".join(cells), file=sys.stderr, flush=True)  # the table comes at the end, in half an hour


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delays-ms", type=float, nargs="+", default=[0.0, 20.0, 100.0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=64)
    arguments = parser.parse_args()
    table = Table(
        title=f"Drafts over three hops, {arguments.max_tokens} tokens, medians of {arguments.repeats}"
    )
    for column in (
        "link delay",
        "text",
        "drafts",
        "tokens/s",
        "gain",
        "tokens a lap",
        "accepted",
        "same tokens",
    ):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as scratch:
        for delay_ms in arguments.delays_ms:
            delay_links(delay_ms / 1000)
            directory = Path(scratch) / f"{delay_ms:.0f}"
            asyncio.run(
                measure(
                    delay_ms / 1000,
                    table,
                    directory,
                    repeats=arguments.repeats,
                    max_tokens=arguments.max_tokens,
                )
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
