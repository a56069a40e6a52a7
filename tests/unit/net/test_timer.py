"""The timer that is set with every packet."""

from __future__ import annotations

import asyncio

from gridnode.net.timer import LazyTimer


def test_later_deadline_keeps_the_call_and_an_earlier_one_replaces_it() -> None:
    async def main() -> None:
        fired = asyncio.Event()
        timer = LazyTimer(fired.set)
        timer.set(100.0)
        first = timer._call
        timer.set(200.0)
        assert timer._call is first
        timer.set(0.0)
        assert timer._call is not first
        async with asyncio.timeout(5):
            await fired.wait()
        assert timer._call is None

    asyncio.run(main())


def test_cancelled_timer_does_not_fire() -> None:
    async def main() -> None:
        fired: list[int] = []
        timer = LazyTimer(lambda: fired.append(1))
        timer.set(0.0)
        timer.cancel()
        timer.cancel()
        other = asyncio.Event()
        LazyTimer(other.set).set(0.002)
        async with asyncio.timeout(5):
            await other.wait()
        assert fired == []

    asyncio.run(main())
