"""Following a node's status for a screen."""

from __future__ import annotations

import asyncio

import pytest
from fake_node import FakeNode

from gridnode_dashboard.following import follow


class Client:
    async def status(self) -> object:
        return FakeNode().status()


# From the hurry to the follower, in rounds of the event loop.
@pytest.mark.parametrize("rounds", range(5))
def test_a_follower_ends_also_in_a_hurry(rounds: int) -> None:
    async def scenario() -> None:
        hurry, seen = asyncio.Event(), asyncio.Event()
        following = asyncio.create_task(follow(Client(), lambda _: seen.set(), hurry))  # type: ignore[arg-type]
        await seen.wait()
        await asyncio.sleep(0)
        hurry.set()
        for _ in range(rounds):
            await asyncio.sleep(0)
        following.cancel()
        await asyncio.wait([following], timeout=10)
        is_done = following.done()
        following.cancel()
        await asyncio.wait([following])
        assert is_done

    asyncio.run(scenario())
