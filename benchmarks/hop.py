"""What one hop costs beside its compute: `python benchmarks/hop.py`.

Three nodes with one block each of a random model of hidden size 2048 run as processes on loopback; this
process is the client. Decode steps are timed on routes of one, two and three hops. The overhead of a step is
its time less the compute that every hop reports; the overhead of one hop is what one more hop adds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from gridnode.config import NodeConfig
from gridnode.core.addresses import Address
from gridnode.core.announcements import PeerState
from gridnode.core.routing import Hop, Route
from gridnode.net.udp import bind_udp
from gridnode.node.node import Node
from gridnode.node.remote_session import RemoteSession, SessionPlan
from gridnode.wire.messages import StepKind
from gridnode.wire.tensors import TensorHeader

HIDDEN_SIZE = 2048
NUM_NODES = 3
WARM_UP_STEPS = 30


@dataclass(frozen=True)
class Timing:
    """One decode step, in milliseconds."""

    total_ms: float
    compute_ms: float
    inside_ms: float
    """What the hops spent beside compute: the worker's pipe, framing, waiting for the processor."""

    @property
    def overhead_ms(self) -> float:
        return self.total_ms - self.compute_ms


def make_model(directory: Path) -> None:
    """Write a random Llama: the width of a 1B model, but narrow feed-forward, so that compute is short."""
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=HIDDEN_SIZE,
        intermediate_size=512,
        num_hidden_layers=NUM_NODES,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(directory)


def free_ports(count: int) -> list[int]:
    """Return UDP ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(bind_udp(Address("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def daemons(model: Path, directory: Path, ports: Sequence[int]) -> Iterator[None]:
    """Run one node per port, each with one block."""
    processes = []
    for index, port in enumerate(ports):
        command = [sys.executable, "-m", "gridnode", "up", "--model", str(model), "--log-level", "error"]
        command += ["--blocks", f"{index}:{index + 1}", "--quantize", "none", "--executor", "torch"]
        command += ["--threads", "1", "--api", "127.0.0.1:0", "--listen", f"127.0.0.1:{port}"]
        command += ["--state-dir", str(directory / f"node{index}")]
        if index:
            command += ["--join", f"127.0.0.1:{ports[0]}"]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


@contextlib.asynccontextmanager
async def client(directory: Path, port: int) -> AsyncIterator[Node]:
    """Run a node without blocks, joined to the swarm, once all others are online."""
    config = NodeConfig(
        listen=Address("127.0.0.1", 0), join=(Address("127.0.0.1", port),), state_dir=directory / "client"
    )
    node = Node(config)
    running = asyncio.create_task(node.run())
    try:
        async with asyncio.timeout(120):
            await node.wait_until(
                lambda swarm: (
                    sum(p.announcement.state is PeerState.ONLINE for p in swarm.peers.values()) > NUM_NODES
                )
            )
        yield node
    finally:
        running.cancel()
        await asyncio.wait([running])


async def time_route(node: Node, num_hops: int, num_steps: int) -> list[Timing]:
    """Return the timings of decode steps on a route of `num_hops`."""
    announcements = {
        serving.span.start: announcement
        for peer in node.swarm.peers.values()
        for announcement in [peer.announcement]
        if (serving := announcement.serving) is not None
    }
    hops = [announcements[index] for index in range(num_hops)]
    serving = hops[0].serving
    assert serving is not None
    route = Route(tuple(Hop(hop.peer_id, hop.serving.span) for hop in hops if hop.serving))
    plan = SessionPlan(model=serving.model, route=route, max_tokens=num_steps)
    addresses = {hop.peer_id: hop.addresses for hop in hops}
    token = np.array([[7]], dtype="<i4").tobytes()
    timings = []
    async with RemoteSession(node.links, plan, addresses=addresses) as session:
        for position in range(num_steps):
            started_at = time.perf_counter()
            outcome = await session.step(
                token, TensorHeader("int32", (1, 1)), position=position, kind=StepKind.DECODE, output="hidden"
            )
            total_s = time.perf_counter() - started_at
            compute_s = sum(hop.compute_s for hop in outcome.trace)
            inside_s = sum(hop.hop_s for hop in outcome.trace) - compute_s
            timings.append(Timing(total_s * 1e3, compute_s * 1e3, inside_s * 1e3))
    return timings[WARM_UP_STEPS:]


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Return p50 and p99."""
    return statistics.median(values), float(np.percentile(values, 99))


def show(results: dict[int, list[Timing]]) -> None:
    """Print the table and the figure."""
    console = Console()
    table = Table(title=f"One decode step, hidden size {HIDDEN_SIZE}, milliseconds (p50 / p99)")
    for column in ("hops", "step", "compute", "overhead", "inside the hops", "network and client"):
        table.add_column(column, justify="right")
    for num_hops, timings in results.items():
        rows = [
            [t.total_ms for t in timings],
            [t.compute_ms for t in timings],
            [t.overhead_ms for t in timings],
            [t.inside_ms for t in timings],
            [t.overhead_ms - t.inside_ms for t in timings],
        ]
        table.add_row(str(num_hops), *("{:.2f} / {:.2f}".format(*percentiles(row)) for row in rows))
    console.print(table)
    overhead = {n: [t.overhead_ms for t in timings] for n, timings in results.items()}
    p50 = (statistics.median(overhead[NUM_NODES]) - statistics.median(overhead[1])) / (NUM_NODES - 1)
    mean_hop = [value / NUM_NODES for value in overhead[NUM_NODES]]
    console.print(f"one more hop adds {p50:.2f} ms (p50 of {NUM_NODES} hops less p50 of 1, halved)")
    console.print(
        "overhead of {} hops / {}: p50 {:.2f} ms, p99 {:.2f} ms".format(
            NUM_NODES, NUM_NODES, *percentiles(mean_hop)
        )
    )


async def measure(directory: Path, port: int, num_steps: int) -> dict[int, list[Timing]]:
    """Return the timings for each number of hops."""
    async with client(directory, port) as node:
        return {n: await time_route(node, n, num_steps + WARM_UP_STEPS) for n in range(1, NUM_NODES + 1)}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500, help="timed decode steps per route")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        make_model(directory / "model")
        ports = free_ports(NUM_NODES)
        with daemons(directory / "model", directory, ports):
            show(asyncio.run(measure(directory, ports[0], arguments.steps)))


if __name__ == "__main__":
    main()
