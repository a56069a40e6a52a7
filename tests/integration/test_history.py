"""What a real node remembers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from waiting import until

from gridnode.config import NodeConfig
from gridnode.control.history import Activity
from gridnode.core.addresses import Address
from gridnode.node.node import Node


@contextlib.asynccontextmanager
async def running(state_dir: Path, *join: Address) -> AsyncIterator[Node]:
    """Run a node that serves nothing, until the context ends."""
    node = Node(
        NodeConfig(
            listen=Address("127.0.0.1", 0),
            join=join,
            mdns=False,
            state_dir=state_dir,
            public_name=state_dir.name,
        )
    )
    listening = asyncio.Event()
    task = asyncio.create_task(node.run(on_listening=listening.set))
    try:
        await listening.wait()
        yield node
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_joins_and_goodbyes_are_remembered_over_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "home") as home:
            async with running(tmp_path / "guest", home.address) as guest:
                await until(lambda: guest.peer_id in home.swarm.peers)
            await until(lambda: guest.peer_id not in home.swarm.peers)
        async with running(tmp_path / "home") as home:
            told: tuple[Activity, ...] = await home.history.activity()
        assert [(a.kind, a.public_name) for a in told] == [("left", "guest"), ("joined", "guest")]

    asyncio.run(scenario())


def test_waiters_hear_of_changes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            running(tmp_path / "home") as home,
            running(tmp_path / "guest", home.address) as guest,
        ):
            async with asyncio.timeout(20):
                while guest.peer_id not in home.swarm.peers:
                    await home.wait_change()
            assert await home.reach(guest.status().peer_id) is not None

    asyncio.run(scenario())
