"""Nodes as real processes that start in a fraction of a second: forked from one that has loaded torch.

What runs in them is the node as it is, with a real engine worker, which is forked as well. Only the two
seconds that Python takes to import torch are saved: tests kill hundreds of nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from gridnode.config import NodeConfig
from gridnode.core.addresses import Address
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span

# Whatever a node and its worker import.
_PRELOADED = ["nursery", "torch", "onnxruntime", "transformers.models.llama.modeling_llama"] + [
    f"gridnode.{name}" for name in ("node.node", "engine.worker", "engine.torch_span", "engine.onnx_span")
]


class ForkedWorker:
    """An engine worker, as `asyncio.subprocess.Process` looks to the supervisor."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    async def wait(self) -> int:
        """Wait for its end."""
        if self.returncode is None:
            _, status = await asyncio.to_thread(os.waitpid, self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


async def fork_worker(sock: socket.socket) -> ForkedWorker:
    """Fork an engine worker on its end of the pair; takes the place of starting a new Python."""
    from gridnode.engine import worker

    pid = os.fork()
    if pid:
        return ForkedWorker(pid)
    try:
        # No other socket of the node: its port must be closed as soon as the node is gone.
        kept = os.dup2(sock.fileno(), 3)
        os.closerange(4, 1024)
        worker._die_with_parent()
        worker.Worker(socket.socket(fileno=kept)).run()
    finally:
        os._exit(0)


def _serve(config: NodeConfig) -> None:
    import torch

    from gridnode.node import engine_supervisor
    from gridnode.node.node import Node

    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    engine_supervisor._spawn = fork_worker  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    asyncio.run(Node(config).run())


class Slot:
    """A place in the swarm: whoever fills it has the same blocks, identity and port each time."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.process: ForkServerProcess | None = None
        self.started_at = 0.0
        """When the node was started that is here, on the monotonic clock."""

    def start(self) -> None:
        """Start a node here; whoever was here before is dead."""
        context = multiprocessing.get_context("forkserver")
        self.process = context.Process(target=_serve, args=(self.config,), daemon=True)
        self.process.start()
        self.started_at = time.monotonic()

    def kill(self) -> None:
        """Kill the node with SIGKILL, whatever it does, and bury it."""
        assert self.process is not None
        self.process.kill()
        self.process.join()

    def signal(self, number: int) -> None:
        """Send a signal to the node."""
        assert self.process is not None
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


@contextlib.contextmanager
def nursery(
    directory: Path,
    model: Path,
    spans: list[Span],
    *,
    join: Address,
    quantization: QuantFormat = QuantFormat.NONE,
    cache_tokens: int = 8192,
) -> Iterator[list[Slot]]:
    """Run a node for each of `spans`, each a process, joined to `join`; kill them at the end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    slots = [
        Slot(
            NodeConfig(
                model=str(model),
                blocks=span,
                quantization=quantization,
                dtype="float32",
                cache_tokens=cache_tokens,
                threads=1,
                listen=Address("127.0.0.1", port),
                join=(join,),
                public_name=f"slot {number}",
                state_dir=directory / f"slot{number}",
            )
        )
        for number, (span, port) in enumerate(zip(spans, free_ports(len(spans)), strict=True))
    ]
    try:
        for slot in slots:
            slot.start()
        yield slots
    finally:
        for slot in slots:
            slot.kill()


def free_ports(count: int) -> list[int]:
    """Return UDP ports of loopback that are free now."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind(("127.0.0.1", 0))
            found.append(sock.getsockname()[1])
        return found
