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
import struct
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NoReturn

from gridnode.config import NodeConfig
from gridnode.core.addresses import Address
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span

# Whatever a node and its worker import.
_PRELOADED = ["nursery", "torch", "onnxruntime", "transformers.models.llama.modeling_llama"] + [
    f"gridnode.{name}" for name in ("node.node", "engine.worker", "engine.torch_span", "engine.onnx_span")
]
_NUMBER = struct.Struct("i")


class ForkedWorker:
    """An engine worker, as `asyncio.subprocess.Process` looks to the supervisor."""

    def __init__(self, pid: int, status: asyncio.Task[int]) -> None:
        self.pid = pid
        self._status = status

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return os.waitstatus_to_exitcode(self._status.result()) if self._status.done() else None

    async def wait(self) -> int:
        """Wait for its end."""
        return os.waitstatus_to_exitcode(await asyncio.shield(self._status))

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Midwife:
    """A process that forks the engine workers of a node, one after another.

    The node itself must not: it has threads, and a lock that one of them holds while the worker is forked
    is never released in the worker, which then stands still for ever. Make it before the node has any.
    """

    def __init__(self) -> None:
        self._sock, theirs = socket.socketpair()
        with theirs:
            if os.fork() == 0:
                self._sock.close()
                _fork_workers(theirs)
        self._sock.setblocking(False)

    async def fork_worker(self, sock: socket.socket) -> ForkedWorker:
        """Fork an engine worker on its end of the pair; takes the place of starting a new Python."""
        socket.send_fds(self._sock, [b"."], [sock.fileno()])
        pid = await self._number()
        # Awaited by whoever waits for the worker, which the supervisor does in any case.
        return ForkedWorker(pid, asyncio.create_task(self._number(), name="worker's end"))

    async def _number(self) -> int:
        (number,) = _NUMBER.unpack(await asyncio.get_running_loop().sock_recv(self._sock, _NUMBER.size))
        return int(number)


def _fork_workers(orders: socket.socket) -> NoReturn:
    """Fork a worker for every socket that comes; tell its process id, and how it ended."""
    from gridnode.engine import worker

    try:
        worker._die_with_parent()
        while True:
            _, descriptors, _, _ = socket.recv_fds(orders, 1, 1)
            if not descriptors:
                break  # the node is gone
            (descriptor,) = descriptors
            pid = os.fork()
            if pid == 0:
                orders.close()
                worker._die_with_parent()
                worker.Worker(socket.socket(fileno=descriptor)).run()
                break
            os.close(descriptor)
            orders.sendall(_NUMBER.pack(pid))
            orders.sendall(_NUMBER.pack(os.waitpid(pid, 0)[1]))
    finally:
        os._exit(0)


def _serve(config: NodeConfig) -> None:
    import torch

    from gridnode.node import engine_supervisor
    from gridnode.node.node import Node

    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    engine_supervisor._spawn = Midwife().fork_worker  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    asyncio.run(Node(config).run())


class Slot:
    """A place in the swarm: whoever fills it has the same blocks, identity and port each time."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.process: ForkServerProcess | None = None

    def start(self) -> None:
        """Start a node here; whoever was here before is dead."""
        context = multiprocessing.get_context("forkserver")
        self.process = context.Process(target=_serve, args=(self.config,), daemon=True)
        self.process.start()

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
