"""Dialling the mesh: peers that answer late, never, or are gone before they are dialled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

import pytest
from waiting import until

from gridnode.core.addresses import Address
from gridnode.core.announcements import Announcement, PeerState
from gridnode.core.ids import PeerId
from gridnode.errors import PeerLost
from gridnode.net.transport import Connection
from gridnode.node import membership
from gridnode.node.links import Links
from gridnode.node.membership import Membership, MembershipConfig

ME = PeerId(bytes(32))
"""Smaller than all others: it dials them at once."""

SILENT, GOOD = PeerId(b"\x01" * 32), PeerId(b"\x02" * 32)


class Dials:
    """Links that connect to those in `answering`, and wait for the others for ever."""

    peer_id = ME

    def __init__(self) -> None:
        self.answering: set[PeerId] = set()
        self.dialled: list[PeerId] = []
        self.waiting = 0
        self.linked: dict[PeerId, Connection] = {}
        self.on_look: Callable[[], None] = lambda: None

    def connections(self) -> Mapping[PeerId, Connection]:
        self.on_look()
        return self.linked

    async def connect(self, peer_id: PeerId, addresses: Sequence[Address]) -> Connection:
        self.dialled.append(peer_id)
        self.waiting += 1
        try:
            await until(lambda: peer_id in self.answering)
        finally:
            self.waiting -= 1
        if not addresses:
            raise PeerLost("it has no address")
        self.linked[peer_id] = connection = cast("Connection", object())
        return connection


def announcement(peer_id: PeerId, *, ttl_s: float = 90.0) -> Announcement:
    return Announcement(
        peer_id=peer_id,
        sequence=1,
        ttl_s=ttl_s,
        state=PeerState.ONLINE,
        swarm="home",
        addresses=(Address("192.0.2.1", 7338),),
    )


def keep_mesh(watch: Callable[[Dials, Membership], Coroutine[Any, Any, None]]) -> None:
    """Let a node dial its mesh while `watch` runs."""

    async def main() -> None:
        dials = Dials()
        config = MembershipConfig(swarm="home", mesh_interval_s=0.001)
        keeping = Membership(
            config,
            cast("Links", dials),
            describe=lambda sequence, ttl_s: announcement(ME, ttl_s=ttl_s),
            sign=lambda data: bytes(64),
        )
        running = asyncio.create_task(keeping.run())
        try:
            async with asyncio.timeout(20):
                await watch(dials, keeping)
            assert not running.done()
        finally:
            running.cancel()
            [error] = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(error, asyncio.CancelledError)

    asyncio.run(main())


def meet(keeping: Membership, peer_id: PeerId, *, ttl_s: float = 90.0) -> None:
    now = asyncio.get_running_loop().time()
    keeping.swarm = keeping.swarm.apply(announcement(peer_id, ttl_s=ttl_s), now=now)


def test_a_peer_that_answers_late_keeps_nobody_waiting() -> None:
    async def watch(dials: Dials, keeping: Membership) -> None:
        meet(keeping, SILENT)
        await until(lambda: dials.dialled == [SILENT])
        dials.answering.add(GOOD)
        meet(keeping, GOOD)
        await until(lambda: GOOD in dials.linked)
        assert SILENT not in dials.linked
        assert dials.dialled == [SILENT, GOOD], "nobody is dialled twice at a time"

    keep_mesh(watch)


def test_announcements_expire_while_a_peer_is_dialled() -> None:
    async def watch(dials: Dials, keeping: Membership) -> None:
        meet(keeping, SILENT, ttl_s=0.05)
        await until(lambda: dials.dialled == [SILENT])
        await keeping.wait_until(lambda swarm: SILENT not in swarm.peers)
        assert dials.waiting == 1

    keep_mesh(watch)


def test_a_peer_that_left_before_it_was_dialled_is_no_failure() -> None:
    async def watch(dials: Dials, keeping: Membership) -> None:
        def leave_after_the_look() -> None:
            # Before the tasks of the dials have their turn.
            asyncio.get_running_loop().call_soon(keeping.forget, SILENT)

        dials.on_look = leave_after_the_look
        meet(keeping, SILENT)
        await until(lambda: SILENT in dials.dialled)
        dials.answering.add(SILENT)
        await until(lambda: not dials.waiting)

    keep_mesh(watch)


def test_few_peers_are_dialled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "MAX_MESH_DIALS", 3)
    peers = [PeerId(bytes([number]) * 32) for number in range(1, 8)]

    async def watch(dials: Dials, keeping: Membership) -> None:
        looks = most = 0

        def look() -> None:
            nonlocal looks, most
            looks, most = looks + 1, max(most, dials.waiting)

        dials.on_look = look
        for peer_id in peers:
            meet(keeping, peer_id)
        await until(lambda: dials.waiting == 3)
        before = looks
        await until(lambda: looks > before + 3)
        assert len(dials.dialled) == 3
        dials.answering.update(peers)
        await until(lambda: len(dials.linked) == len(peers))
        assert most == 3

    keep_mesh(watch)
