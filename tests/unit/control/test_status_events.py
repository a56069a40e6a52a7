from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import msgspec
from fake_node import STATUS, FakeNode

from gridnode.control.status_events import StatusFeed
from gridnode.control.status_schema import NodeStatus


def feed(node: FakeNode, **settings: float) -> StatusFeed:
    return StatusFeed(node, **{"min_interval_s": 0.0, **settings})


async def next_status(events: AsyncGenerator[bytes, None]) -> NodeStatus:
    event = await anext(events)
    name, data = event.decode().splitlines()[:2]
    assert name == "event: status"
    return msgspec.json.decode(data.removeprefix("data: "), type=NodeStatus)


def test_the_whole_status_comes_first_and_again_after_a_change() -> None:
    async def scenario() -> None:
        node = FakeNode()
        async with aclosing(feed(node).events(closing=asyncio.Event(), brief=False)) as events:
            assert (await anext(events)).startswith(b"retry: ")
            assert await next_status(events) == STATUS
            following = asyncio.create_task(next_status(events))
            await asyncio.sleep(0)  # it waits now
            await asyncio.sleep(0)
            node.become(replace(STATUS, open_sessions=3))
            assert (await following).open_sessions == 3

    asyncio.run(scenario())


def test_silence_is_filled_with_comments() -> None:
    async def scenario() -> None:
        events = feed(FakeNode(), keep_alive_s=0.001).events(closing=asyncio.Event(), brief=False)
        async with aclosing(events):
            await anext(events)
            await next_status(events)
            assert (await anext(events)).startswith(b":")

    asyncio.run(scenario())


def test_stream_ends_when_the_node_stops() -> None:
    async def scenario() -> None:
        closing = asyncio.Event()
        async with aclosing(feed(FakeNode()).events(closing=closing, brief=False)) as events:
            await anext(events)
            await next_status(events)
            closing.set()
            assert [event async for event in events if not event.startswith(b":")] == []

    asyncio.run(scenario())


def test_brief_events_say_only_that_something_changed() -> None:
    async def scenario() -> None:
        async with aclosing(feed(FakeNode()).events(closing=asyncio.Event(), brief=True)) as events:
            await anext(events)
            assert await anext(events) == b"event: changed\ndata: {}\n\n"

    asyncio.run(scenario())


def test_many_changes_make_few_events() -> None:
    async def scenario() -> None:
        node = FakeNode()
        async with aclosing(
            feed(node, min_interval_s=0.05).events(closing=asyncio.Event(), brief=False)
        ) as events:
            await anext(events)
            await next_status(events)
            following = asyncio.create_task(next_status(events))
            for sessions in range(20):
                await asyncio.sleep(0)
                node.become(replace(STATUS, open_sessions=sessions))
            assert (await following).open_sessions == 19

    asyncio.run(scenario())


def test_a_change_while_an_event_is_sent_is_not_lost() -> None:
    async def scenario() -> None:
        node = FakeNode()
        async with aclosing(feed(node).events(closing=asyncio.Event(), brief=False)) as events:
            await anext(events)
            await next_status(events)
            node.become(replace(STATUS, open_sessions=7))  # the reader has not asked for more yet
            async with asyncio.timeout(5):
                assert (await next_status(events)).open_sessions == 7

    asyncio.run(scenario())
