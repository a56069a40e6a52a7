"""A node that serves nothing, in a thread of its own, for programs that are not asynchronous."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import tempfile
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gridnode.config import DEFAULT_SWARM, NodeConfig
from gridnode.config.layers import to_node_config
from gridnode.config.sources import read_sources
from gridnode.config.swarm_file import find_swarm
from gridnode.control.client import ControlClient
from gridnode.core.addresses import Address, at_home, is_unspecified, parse_address
from gridnode.core.ids import ModelId
from gridnode.core.invitation import Invitation
from gridnode.core.swarm_pass import SwarmPass
from gridnode.errors import GridError, NotRunning
from gridnode.node.node import Node

T = TypeVar("T")

# Finding the swarm, dialling it and measuring it takes seconds; nodes that still load take longer.
SWARM_TIMEOUT_S = 60.0
ANY_ADDRESS = Address("0.0.0.0", 0)


class ClientNode:
    """This process as a member of a swarm. Close it, or let the process end.

    Args:
        join: Peers to connect to first; none finds the swarm of the node on this computer, or by mDNS.
        swarm: Name of the swarm.
        listen: Where QUIC listens; hops elsewhere are reached from there too.
    """

    def __init__(
        self, *, join: Sequence[Address] = (), swarm: str = DEFAULT_SWARM, listen: Address = ANY_ADDRESS
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="gridnode-")
        config = NodeConfig(
            join=tuple(join),
            swarm=swarm,
            listen=listen,
            mdns=not join,
            state_dir=Path(self._directory.name),
        )
        self._listening: concurrent.futures.Future[Node] = concurrent.futures.Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._run(config),), name="gridnode", daemon=True
        )
        self._thread.start()
        try:
            self.node = self._listening.result(SWARM_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns, run on the node's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work` on the node's event loop, without waiting for it. Nothing happens after `close`."""
        if self._loop.is_closed():
            work.close()
        else:
            asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait_model(self, model: ModelId, num_blocks: int, *, timeout_s: float = SWARM_TIMEOUT_S) -> None:
        """Return once the swarm has a route for `model`.

        Raises:
            NoRoute: blocks are still missing after `timeout_s`; the text says which.
        """

        async def wait() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.node.wait_until(lambda swarm: not swarm.gaps(model, num_blocks))
            self.node.models.route(model, num_blocks)

        self.call(wait())

    def close(self) -> None:
        """Leave the swarm. Safe to call more than once."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop)
            self._thread.join()
        if not self._loop.is_closed():
            self._loop.close()
        self._directory.cleanup()

    def _stop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    async def _run(self, config: NodeConfig) -> None:
        try:
            node = Node(config, _held(config.swarm))
            await node.run(on_listening=lambda: self._listening.set_result(node))
        except asyncio.CancelledError:
            pass
        except GridError as exc:
            if not self._listening.done():
                self._listening.set_exception(exc)
                return
            raise


def _held(swarm: str) -> Invitation:
    """Return what the node of this computer holds of `swarm`, which a program here may use like it."""
    held = find_swarm(to_node_config(read_sources(os.environ)), os.environ)
    return held if swarm in (DEFAULT_SWARM, held.swarm.name) else Invitation(swarm=SwarmPass(name=swarm))


async def local_swarm(api: Address) -> tuple[tuple[Address, ...], str]:
    """Return where the node on this computer listens, and the name of its swarm; nothing if there is none."""
    try:
        async with ControlClient(api) as client:
            status = await client.status()
    except NotRunning:
        return (), DEFAULT_SWARM
    listen = parse_address(status.listen)
    return (at_home(listen) if is_unspecified(listen) else listen,), status.swarm
