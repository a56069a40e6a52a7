"""What every transport promises: who dials learns who is there, or that nobody is."""

from __future__ import annotations

import asyncio

import pytest
from transport_worlds import TIMEOUT_S, World, pair, run

from gridnode.core.ids import PeerId
from gridnode.errors import (
    PeerLost,
    Unauthentic,
)


def test_connection_knows_both_ends(world: World) -> None:
    async def main() -> None:
        near, far = world.make(), world.make()
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(far.accept())
            dialled = await near.dial(far.address, peer_id=None, timeout_s=TIMEOUT_S)
        accepted = accepting.result()
        assert (dialled.peer_id, accepted.peer_id) == (far.peer_id, near.peer_id)
        assert (dialled.is_client, accepted.is_client) == (True, False)
        assert (dialled.address, accepted.address) == (far.address, near.address)
        assert dialled.rtt_s is not None
        await near.aclose()
        await far.aclose()

    run(main())


def test_both_ends_can_ping(world: World) -> None:
    async def main() -> None:
        async with pair(world) as ends:
            for end in ends:
                first, second = await asyncio.gather(end.ping(), end.ping())
                assert 0 <= first < TIMEOUT_S
                assert 0 <= second < TIMEOUT_S

    run(main())


def test_dialling_nobody_ends_in_time(world: World) -> None:
    async def main() -> None:
        near = world.make()
        with pytest.raises(PeerLost, match=r"nobody answered|cannot reach"):
            await near.dial(world.nowhere(), peer_id=None, timeout_s=0.2)
        await near.aclose()

    run(main())


def test_dialling_the_wrong_peer_is_refused(world: World) -> None:
    async def main() -> None:
        near, far = world.make(), world.make()
        accepting = asyncio.create_task(far.accept())
        with pytest.raises(Unauthentic, match="answered instead of"):
            await near.dial(far.address, peer_id=PeerId(bytes(32)), timeout_s=TIMEOUT_S)
        assert not accepting.done()
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        await near.aclose()
        await far.aclose()

    run(main())


def test_cancelled_dial_leaves_nothing(world: World) -> None:
    async def main() -> None:
        near = world.make()
        dialling = asyncio.create_task(near.dial(world.nowhere(), peer_id=None, timeout_s=TIMEOUT_S))
        await asyncio.sleep(0.01)
        dialling.cancel()
        [result] = await asyncio.gather(dialling, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError)
        await near.aclose()

    run(main())
