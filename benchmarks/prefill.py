"""Time to the first token of a long prompt over three hops: `python benchmarks/prefill.py`.

A prompt of 1024 tokens. "Without" sends it in one piece, or the next chunk when the one before has come back;
"with" sends chunks one behind the other, so that all hops compute at once. Medians.

Three hops on one computer share its cores, and compute no more at once than it has. So the hops wait here for
each token, 1 ms, as if each had a computer of its own; what they compute is small. `--demo` takes the demo
model on the cores that there are instead.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from far_nodes import client, delay_links, demo_model, far_nodes, thirds
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models

from gridnode.control.answer_schema import Finished, GenerateRequest
from gridnode.core.spans import Span
from gridnode.node import lasting_session
from gridnode.node.node import Node

CHUNK_TOKENS = 128
TOKEN_S = 0.001
UNDER_WAY = lasting_session.MAX_STEPS_UNDER_WAY


@dataclass(frozen=True)
class Hops:
    """What computes the prompt."""

    model: Path
    spans: list[Span]
    token_s: float
    """What each token waits in each hop."""


def slow_hops(directory: Path) -> Hops:
    """Write a random model as wide as SmolLM2 with little to compute, and return its hops."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=576,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer = Tokenizer(models.BPE(vocab={chr(i): i for i in range(256)}, merges=[]))
    tokenizer.save(str(directory / "tokenizer.json"))
    return Hops(directory, thirds(3), TOKEN_S)


async def time_to_first_token(node: Node, num_tokens: int, chunk_tokens: int | None, under_way: int) -> float:
    """Return the seconds from a request to its first token."""
    lasting_session.MAX_STEPS_UNDER_WAY = under_way
    request = GenerateRequest(
        token_ids=tuple(i * 7919 % 250 for i in range(num_tokens)),
        max_tokens=1,
        prefill_chunk_tokens=chunk_tokens,
    )
    finished = [event async for event in node.generate(request) if isinstance(event, Finished)]
    return finished[0].ttft_s


async def measure(
    hops: Hops, directory: Path, *, delay_s: float, repeats: int, num_tokens: int
) -> dict[str, float]:
    """Return the medians of each way."""
    ways: dict[str, tuple[int | None, int]] = {
        "without: one piece": (num_tokens, 1),
        f"without: chunks of {CHUNK_TOKENS}, one at a time": (CHUNK_TOKENS, 1),
        "with: chunks of 256": (256, UNDER_WAY),
        "with: chunks that suit the route": (None, UNDER_WAY),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    with far_nodes(hops.model, hops.spans, directory, delay_s=delay_s, token_s=hops.token_s) as port:
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
    parser.add_argument("--demo", action="store_true", help="the demo model on this computer's cores")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.demo:
            hops = Hops(demo_model(), thirds(), 0.0)
            what = f"the demo model on {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.0f}"
        else:
            hops = slow_hops(Path(scratch) / "model")
            what = f"{TOKEN_S * 1000:g} ms a token in each"
        table = Table(title=f"First token behind {arguments.tokens}, three hops, {what}")
        for column in ("link delay", "prompt", "seconds", "of one piece"):
            table.add_column(column)
        for delay_ms in arguments.delays_ms:
            delay_links(delay_ms / 1000)
            found = asyncio.run(
                measure(
                    hops,
                    Path(scratch) / f"{delay_ms:.0f}",
                    delay_s=delay_ms / 1000,
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
