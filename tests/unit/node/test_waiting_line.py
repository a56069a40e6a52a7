from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import pytest

from gridnode.control.answer_schema import Waiting
from gridnode.core.route_wishes import RouteWishes
from gridnode.errors import (
    BadInput,
    CacheFull,
    ErrorCode,
    GridError,
    ModelLoading,
    NoCapacity,
    NoRoute,
    PeerRefused,
)
from gridnode.node import waiting_line
from gridnode.node.waiting_line import WaitingLine, Wanted, may_pass

LOADING = ModelLoading("b is being loaded")
ANY = Wanted(model="a")
ONLY_ADA = RouteWishes(allow=("Ada",))


class Room:
    """Takes as many as there is room for, and remembers who came."""

    def __init__(self, places: int, error: GridError | None = None) -> None:
        self.places = places
        self.error = error or CacheFull(10, 0)
        self.came: list[str] = []

    async def take(self, name: str) -> None:
        if self.places < 1:
            raise self.error
        self.places -= 1
        self.came.append(name)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_line, "RETRY_S", 0.001)


async def enter(
    line: WaitingLine,
    room: Room,
    name: str,
    told: list[Waiting],
    wait_s: float = 60.0,
    wanted: Wanted = ANY,
) -> None:
    async with contextlib.aclosing(line.enter(lambda: room.take(name), lambda: wanted, wait_s)) as waiting:
        async for news in waiting:
            told.append(news)


async def come(line: WaitingLine, room: Room, wanted: Mapping[str, Wanted]) -> dict[str, list[Waiting]]:
    """Let all come one after the other; when all wait, make room for them. Return what each was told."""
    told: dict[str, list[Waiting]] = {name: [] for name in wanted}
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for name, each in wanted.items():
            group.create_task(enter(line, room, name, told[name], wanted=each))
            while not told[name]:
                await asyncio.sleep(0)
        room.places = len(wanted)
    return told


def test_with_room_nobody_waits() -> None:
    told: list[Waiting] = []
    asyncio.run(enter(WaitingLine(), Room(1), "a", told))
    assert told == []


def test_who_came_first_is_served_first_and_is_told_the_place() -> None:
    """A19."""

    async def scenario() -> None:
        line, room = WaitingLine(), Room(0)
        told = await come(line, room, dict.fromkeys("abc", ANY))
        assert room.came == ["a", "b", "c"]
        assert [news[0].position for news in told.values()] == [0, 1, 2]
        assert "10 tokens" in told["a"][0].text

    asyncio.run(scenario())


def test_a_model_that_is_being_loaded_holds_up_nobody_who_wants_another() -> None:
    async def scenario() -> None:
        line, loading, room = WaitingLine(), Room(0, LOADING), Room(1)
        told: list[Waiting] = []
        async with asyncio.timeout(10):
            first = asyncio.create_task(enter(line, loading, "first", told, wanted=Wanted(model="b")))
            while not told:
                await asyncio.sleep(0)
            await enter(line, room, "second", [])
            assert not first.done()
            loading.places = 1
            await first
        assert (loading.came, room.came) == (["first"], ["second"])

    asyncio.run(scenario())


def test_who_has_no_route_of_its_own_holds_up_nobody_who_may_take_another() -> None:
    async def scenario() -> None:
        line, away, room = WaitingLine(), Room(0, NoRoute("a", 4, ((0, 4),), is_limited=True)), Room(1)
        told: list[Waiting] = []
        async with asyncio.timeout(10):
            wanted = Wanted(model="a", routing=ONLY_ADA)
            first = asyncio.create_task(enter(line, away, "first", told, wanted=wanted))
            while not told:
                await asyncio.sleep(0)
            await enter(line, room, "second", [])
            assert not first.done()
            away.places = 1
            await first

    asyncio.run(scenario())


def test_who_lacks_room_goes_before_all_that_want_the_model_later() -> None:
    async def scenario() -> None:
        line, room = WaitingLine(), Room(0)
        wishes = {"first": ONLY_ADA, "second": RouteWishes(), "third": RouteWishes(block=("Bo",))}
        told = await come(
            line, room, {name: Wanted(model="a", routing=each) for name, each in wishes.items()}
        )
        assert room.came == list(wishes)
        assert [news[0].position for news in told.values()] == [0, 1, 2]

    asyncio.run(scenario())


def test_who_waits_for_the_same_model_to_be_loaded_keeps_its_place() -> None:
    async def scenario() -> None:
        line, room = WaitingLine(), Room(0, LOADING)
        await come(line, room, dict.fromkeys("abc", ANY))
        assert room.came == ["a", "b", "c"]

    asyncio.run(scenario())


def test_one_that_leaves_lets_the_next_through() -> None:
    async def scenario() -> None:
        line, room = WaitingLine(), Room(0)
        told: list[Waiting] = []
        first = asyncio.create_task(enter(line, room, "first", told))
        second = asyncio.create_task(enter(line, room, "second", told))
        async with asyncio.timeout(10):
            while len(told) < 2:
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
            room.places = 1
            await second
        assert room.came == ["second"]

    asyncio.run(scenario())


def test_the_error_comes_when_the_time_is_over() -> None:
    with pytest.raises(CacheFull):
        asyncio.run(enter(WaitingLine(), Room(0), "a", [], wait_s=0.01))
    with pytest.raises(CacheFull):
        asyncio.run(enter(WaitingLine(), Room(0), "a", [], wait_s=0.0))


def test_a_full_line_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_line, "MAX_WAITING_ANSWERS", 0)
    with pytest.raises(NoCapacity):
        asyncio.run(enter(WaitingLine(), Room(0), "a", []))


def test_only_what_may_pass_is_waited_for() -> None:
    assert may_pass(PeerRefused("full", reason=ErrorCode.CACHE_FULL))
    # The only node with some blocks died while the session was opened: as if there had been no route.
    assert may_pass(PeerRefused("gone", reason=ErrorCode.PEER_LOST))
    assert not may_pass(PeerRefused("nonsense", reason=ErrorCode.BAD_INPUT))
    assert not may_pass(PeerRefused("nonsense was the answer", reason=ErrorCode.PROTOCOL))
    assert not may_pass(BadInput("empty"))
