"""How long an answer stalls when a hop dies: `python benchmarks/failover.py`.

Six nodes run as processes on loopback: three spans of a random model, each held by two. This process asks,
and kills a node of the route with SIGKILL in the middle of the answer. The stall is the longest time between
two tokens from then on, less the median of all: finding out, another route, and sending again what the lost
caches held. Each killed node is started again, and is back before the next answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM

from gridnode.config import NodeConfig
from gridnode.control.answer_schema import Delta, GenerateRequest, Rerouted, Started
from gridnode.core.addresses import Address
from gridnode.core.announcements import PeerState
from gridnode.core.ids import show_peer
from gridnode.core.swarm import SwarmState
from gridnode.net.udp import bind_udp
from gridnode.node.node import Node

CONTEXTS = (128, 1024, 4096)
SPANS = ("0:1", "1:2", "2:3")
REPLICAS = 2
# Tokens before the kill, and behind it.
BEFORE, BEHIND = 12, 12
START_TIMEOUT_S = 300.0


def make_model(directory: Path) -> None:
    """Write a small random Llama: what it computes again is what your model needs; this measures the rest."""
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(directory)
    Tokenizer(models.WordLevel({str(i): i for i in range(256)}, unk_token="0")).save(
        str(directory / "tokenizer.json")
    )


class Daemons:
    """The nodes, by number; each can be started again with its identity and port."""

    def __init__(self, directory: Path, model: Path, join: Address) -> None:
        self._directory = directory
        self._model = model
        self._join = join
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._ports: dict[int, int] = {}

    def start(self, number: int) -> None:
        """Start a node."""
        port = self._ports.setdefault(number, free_port())
        command = [
            sys.executable,
            "-m",
            "gridnode",
            "up",
            "--model",
            str(self._model),
            "--log-level",
            "error",
        ]
        command += ["--blocks", SPANS[number % len(SPANS)], "--threads", "1", "--cache-tokens", "16384"]
        command += ["--name", f"node {number}", "--state-dir", str(self._directory / f"node{number}")]
        command += ["--api", "127.0.0.1:0", "--listen", f"127.0.0.1:{port}", "--join", str(self._join)]
        self._processes[number] = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self, number: int) -> None:
        """Kill a node with SIGKILL; its worker dies with it."""
        self._processes[number].send_signal(signal.SIGKILL)
        self._processes[number].wait()

    def check(self) -> None:
        """Raise if a node ended by itself."""
        for number, process in self._processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"node {number} ended with exit code {process.returncode}")

    def kill_all(self) -> None:
        """Kill every node."""
        for number in self._processes:
            self.kill(number)


def free_port() -> int:
    """Return a UDP port that is free now."""
    with contextlib.closing(bind_udp(Address("127.0.0.1", 0))) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def swarm(directory: Path) -> AsyncIterator[tuple[Node, Daemons]]:
    """Run the nodes, and one here that serves nothing."""
    make_model(directory / "model")
    node = Node(NodeConfig(listen=Address("127.0.0.1", 0), state_dir=directory / "client"))
    listening = asyncio.Event()
    running = asyncio.create_task(node.run(on_listening=listening.set))
    await listening.wait()
    daemons = Daemons(directory, directory / "model", node.address)
    try:
        for number in range(len(SPANS) * REPLICAS):
            daemons.start(number)
        await all_online(node, daemons)
        yield node, daemons
    finally:
        daemons.kill_all()
        running.cancel()
        await asyncio.wait([running])


def newest(swarm: SwarmState) -> dict[str, int]:
    """Return the sequence numbers of the announcements of who serves, by public name."""
    return {
        peer.announcement.public_name: peer.announcement.sequence
        for peer in swarm.peers.values()
        if peer.announcement.state is PeerState.ONLINE and peer.announcement.serving is not None
    }


async def all_online(node: Node, daemons: Daemons, *, again: str = "", since: int = 0) -> None:
    """Wait until every node serves, and `again` said so after its announcement `since`."""

    def is_so(swarm: SwarmState) -> bool:
        found = newest(swarm)
        return len(found) == len(SPANS) * REPLICAS and (not again or found[again] > since)

    async with asyncio.timeout(START_TIMEOUT_S):
        while not is_so(node.swarm):
            daemons.check()
            await asyncio.sleep(0.1)


async def stall(node: Node, daemons: Daemons, context: int, rng: random.Random) -> tuple[float, list[int]]:
    """Kill a random node of the route of an answer; return the stall in seconds, and the tokens."""
    request = GenerateRequest(
        token_ids=tuple(i * 7 % 251 + 1 for i in range(context)),
        max_tokens=BEFORE + BEHIND,
        ignore_eos=True,
        drafts="off",
        max_wait_s=60.0,
    )
    clock = asyncio.get_running_loop().time
    names = {show_peer(p.peer_id): p.announcement.public_name for p in node.swarm.peers.values()}
    came: list[float] = []
    token_ids: list[int] = []
    victim, is_rerouted = "", False
    async with contextlib.aclosing(node.generate(request)) as events:
        async for event in events:
            if isinstance(event, Started):
                victim = names[rng.choice(event.route).peer_id]
            elif isinstance(event, Rerouted):
                is_rerouted = True
            elif isinstance(event, Delta) and event.token_ids:
                came.append(clock())
                token_ids.extend(event.token_ids)
                if len(came) == BEFORE:
                    daemons.kill(int(victim.split()[-1]))
    if not is_rerouted:
        raise RuntimeError(f"{victim} was killed, and nobody noticed")
    gaps = [after - before for before, after in itertools.pairwise(came)]
    longest_s = max(gaps[BEFORE - 1 :])
    before = newest(node.swarm).get(victim, 0)
    daemons.start(int(victim.split()[-1]))
    await all_online(node, daemons, again=victim, since=before)
    return longest_s - statistics.median(gaps), token_ids


async def measure(rounds: int, contexts: Sequence[int]) -> dict[int, list[float]]:
    """Return the stalls for each context."""
    rng = random.Random(0)
    found: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        async with swarm(Path(directory)) as (node, daemons):
            for context in contexts:
                answers = [await stall(node, daemons, context, rng) for _ in range(rounds)]
                if len({tuple(token_ids) for _, token_ids in answers}) != 1:
                    raise RuntimeError("the answers differ")
                found[context] = [stall_s for stall_s, _ in answers]
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="kills for each context")
    parser.add_argument(
        "--contexts", type=int, nargs="+", default=list(CONTEXTS), help="tokens of the prompt"
    )
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.rounds, arguments.contexts))
    table = Table(
        title="Stall when a hop is killed, milliseconds; three hops, a replacement for each is ready"
    )
    for column in ("context", "kills", "p50", "p99", "longest"):
        table.add_column(column, justify="right")
    for context, stalls in found.items():
        p50, p99 = (1e3 * float(np.percentile(stalls, percent)) for percent in (50, 99))
        table.add_row(str(context), str(len(stalls)), f"{p50:.0f}", f"{p99:.0f}", f"{1e3 * max(stalls):.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
