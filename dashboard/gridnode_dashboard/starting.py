"""Starting a node from an interface: it runs as long as the interface does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gridnode.errors import GridError

# Saying goodbye takes a second or two; a node that hangs is killed.
STOP_TIMEOUT_S = 10.0
# What a node says last is what it died of.
MAX_TAIL_LINES = 8
MAX_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class StartOffer:
    """A node that could be started here."""

    label: str
    """What it would serve, for people."""

    command: tuple[str, ...]
    """The program and its arguments. It must end when its standard input does."""


class NodeStarter:
    """Starts nodes that end with this process. An asynchronous context manager."""

    def __init__(self, offers: tuple[StartOffer, ...] = ()) -> None:
        self.offers = offers
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_running(self) -> bool:
        """Whether a node that was started here still runs."""
        return self._process is not None and self._process.returncode is None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def run(self, offer: StartOffer) -> None:
        """Start the node of `offer` and watch it until it ends.

        Raises:
            GridError: it could not be started, or ended by itself; the end of what it said is in the text.
        """
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                *offer.command,
                stdin=asyncio.subprocess.PIPE,  # its end stops the node, also if this process is killed
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for this process
            )
        except OSError as exc:
            raise GridError(f"cannot run {offer.command[0]}: {exc.strerror}") from exc
        assert process.stderr is not None
        tail = b""
        while piece := await process.stderr.read(MAX_TAIL_BYTES):
            tail = (tail + piece)[-MAX_TAIL_BYTES:]
        await process.wait()
        lines = tail.decode(errors="replace").splitlines()[-MAX_TAIL_LINES:]
        raise GridError("\n".join(["the node ended:", *lines]))

    async def aclose(self) -> None:
        """Stop the node, gently and then not. Safe to call more than once."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                # Reads what it still says: a full pipe would keep it from ending.
                await process.communicate()
        with contextlib.suppress(ProcessLookupError):
            # The node leads its own session, so that its engine worker goes with it.
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
