"""Several nodes on this computer, as processes that end with this one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from gridnode.config.sources import ONLY_FILE_VARIABLE
from gridnode.core.addresses import Address, parse_address
from gridnode.core.spans import Span
from gridnode.errors import GridError

# A node opens its ports before it loads anything; slow computers need seconds to import Python modules.
LISTENING_TIMEOUT_S = 60.0
# Saying goodbye takes a second or two; a node that hangs is killed.
STOP_TIMEOUT_S = 10.0
LOG_TAIL_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LocalNode:
    """One running `gridnode up`."""

    name: str
    span: Span
    process: asyncio.subprocess.Process
    log: Path
    api: Address
    listen: Address

    def died(self) -> GridError:
        """Return what to say when the process has ended by itself: the end of its log says why."""
        return _death(self.name, self.process, self.log)


class LocalSwarm:
    """Nodes on free loopback ports, each with one span of the same model. An asynchronous context manager.

    Leaving it stops every node. If this process is killed instead, they notice the end of their
    standard input and stop by themselves.
    """

    def __init__(self, model: str, spans: Sequence[Span], *, directory: Path, threads: int) -> None:
        self.nodes: list[LocalNode] = []
        self._model = model
        self._spans = tuple(spans)
        self._directory = directory
        self._threads = threads
        self._processes: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        """Start the nodes and return when all listen; they load meanwhile.

        Raises:
            GridError: a node ended or did not listen in time.
        """
        try:
            first = await self._start(0, join=())
            self.nodes.append(first)
            rest = range(1, len(self._spans))
            self.nodes += await asyncio.gather(*(self._start(i, join=(first.listen,)) for i in rest))
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop every node, gently and then not. Safe to call more than once."""
        for process in self._processes:
            if process.returncode is None:
                process.terminate()
        waits = [asyncio.ensure_future(process.wait()) for process in self._processes]
        if waits:
            await asyncio.wait(waits, timeout=STOP_TIMEOUT_S)
        for process in self._processes:
            # The node leads its own session, so that its engine worker goes with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await asyncio.gather(*waits)
        self._processes.clear()

    async def _start(self, index: int, *, join: Sequence[Address]) -> LocalNode:
        name, span = f"node {index + 1}", self._spans[index]
        state_dir = self._directory / f"node-{index + 1}"
        log = self._directory / f"node-{index + 1}.log"
        arguments = [
            *("--model", self._model, "--blocks", str(span), "--threads", str(self._threads)),
            *("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--state-dir", str(state_dir)),
            *("--swarm", "demo", "--name", name, "--log-level", "info", "--json", "--stop-with-stdin"),
        ]
        for address in join:
            arguments += ["--join", str(address)]
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gridnode", "up", *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=_own_environment(),
                start_new_session=True,  # Ctrl-C reaches this process only, which stops the others in order
            )
        self._processes.append(process)
        api, listen = await _read_addresses(name, process, log)
        return LocalNode(name=name, span=span, process=process, log=log, api=api, listen=listen)


def _own_environment() -> dict[str, str]:
    """Return the environment without what the person's own node is told."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GRIDNODE_")}
    return kept | {ONLY_FILE_VARIABLE: os.devnull}


async def _read_addresses(
    name: str, process: asyncio.subprocess.Process, log: Path
) -> tuple[Address, Address]:
    """Return the addresses of door and QUIC that a node tells once it listens."""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LISTENING_TIMEOUT_S):
            line = await process.stdout.readline()
    except TimeoutError:
        raise GridError(f"{name} did not listen within {LISTENING_TIMEOUT_S:.0f} s; {_tail(log)}") from None
    if not line:
        await process.wait()
        raise _death(name, process, log)
    told = json.loads(line)
    return parse_address(told["api"]), parse_address(told["listen"])


def _death(name: str, process: asyncio.subprocess.Process, log: Path) -> GridError:
    return GridError(f"{name} ended with exit code {process.returncode}; {_tail(log)}")


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return "\n  ".join(["the end of its log:", *lines])
