"""Looks at the computer become pauses of the node."""

from __future__ import annotations

import asyncio

import pytest
from waiting import until

from gridnode.core.politeness import Circumstances, Terms
from gridnode.node.courtesy import Courtesy
from gridnode.node.pausing import Pausing

ON_MAINS = Terms(on_mains=True)


def test_a_reason_comes_and_new_terms_count_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        pausing = Pausing(on_change=lambda: None)
        seen = Circumstances(minute=0, on_battery=True)
        courtesy = Courtesy(Terms(), rest=pausing.rest, look=lambda _: seen, look_interval_s=0.001)
        running = asyncio.create_task(courtesy.run())
        courtesy.agree(ON_MAINS)
        await until(lambda: pausing.reason == "on battery")
        status = pausing.status()
        assert status is not None
        assert not status.is_owners
        courtesy.agree(Terms())
        await until(lambda: not pausing.reason)
        courtesy.agree(Terms(idle_s=60.0))
        await until(lambda: "when.idle" in caplog.text)
        assert not pausing.reason
        running.cancel()

    asyncio.run(scenario())


def test_the_owners_word_counts_first_and_ends_alone() -> None:
    async def scenario() -> None:
        changes: list[str] = []
        pausing = Pausing(on_change=lambda: changes.append(pausing.reason))
        pausing.rest("on battery")
        pausing.rest("on battery")
        pausing.pause(None, "its owner plays")
        pausing.rest("")
        assert changes == ["on battery", "its owner plays", "its owner plays"]
        pausing.rest("on battery")
        pausing.resume()
        assert pausing.reason == "on battery"
        pausing.resume()
        pausing.rest("")
        async with asyncio.timeout(5):
            await pausing.wait_resumed()

    asyncio.run(scenario())


def test_a_pause_replaces_the_one_before_and_its_end() -> None:
    async def scenario() -> None:
        pausing = Pausing(on_change=lambda: None)
        pausing.pause(0.001, "a moment")
        pausing.pause(3600.0, "an hour")
        status = pausing.status()
        assert status is not None
        assert 3590 < (status.remaining_s or 0) <= 3600
        pausing.pause(0.001, "a moment")
        async with asyncio.timeout(5):
            await pausing.wait_paused()
            await pausing.wait_resumed()
        assert pausing.status() is None

    asyncio.run(scenario())
