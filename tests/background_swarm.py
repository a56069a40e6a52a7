"""A swarm of real nodes in a thread of its own, for tests of what is not asynchronous."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from nodes import START_TIMEOUT_S, Swarm, running_swarm

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span


class BackgroundSwarm:
    """Nodes that run while the context lasts; see `background_swarm`."""

    def __init__(self, swarm: Swarm, loop: asyncio.AbstractEventLoop) -> None:
        self.swarm = swarm
        self._loop = loop

    @property
    def address(self) -> str:
        """Where the first node listens."""
        return str(self.swarm.nodes[0].address)

    def stop(self, index: int) -> None:
        """Stop one node in order."""
        node = self.swarm.nodes[index]
        asyncio.run_coroutine_threadsafe(self.swarm.stop(node), self._loop).result(60)

    def serving(self) -> list[int]:
        """Return which nodes have sessions open."""

        async def look() -> list[int]:
            return [i for i, node in enumerate(self.swarm.nodes) if node.status().open_sessions]

        return asyncio.run_coroutine_threadsafe(look(), self._loop).result(60)

    def wait_nothing_leased(self) -> None:
        """Wait until every lease is free."""
        asyncio.run_coroutine_threadsafe(self.swarm.wait_nothing_leased(), self._loop).result(60)


@contextlib.contextmanager
def background_swarm(
    model: Path, spans: Sequence[Span], *, quantization: QuantFormat = QuantFormat.NONE
) -> Iterator[BackgroundSwarm]:
    """Run one node per span of `model` in a thread; stop them all at the end."""
    ready: concurrent.futures.Future[BackgroundSwarm] = concurrent.futures.Future()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def run() -> None:
        try:
            async with running_swarm(model, spans, quantization=quantization, executor="auto") as swarm:
                ready.set_result(BackgroundSwarm(swarm, loop))
                await over.wait()
        except BaseException as exc:
            if not ready.done():
                ready.set_exception(exc)
            raise

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        yield ready.result(START_TIMEOUT_S)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
