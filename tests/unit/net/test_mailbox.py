"""The queue between callbacks and tasks."""

from __future__ import annotations

import asyncio

import pytest

from gridnode.errors import CacheFull, ConnectionClosed, FrameTooLarge
from gridnode.net.mailbox import Mailbox, fresh


def test_items_come_in_order_and_cancelling_loses_none() -> None:
    async def main() -> None:
        mailbox: Mailbox[int] = Mailbox()
        waiting = asyncio.create_task(mailbox.get())
        await asyncio.sleep(0)
        mailbox.put(1)
        mailbox.put(2)
        waiting.cancel()
        [result] = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError)
        assert len(mailbox) == 2
        assert [await mailbox.get(), await mailbox.get()] == [1, 2]

    asyncio.run(main())


def test_what_is_discarded_is_not_taken() -> None:
    async def main() -> None:
        mailbox: Mailbox[int] = Mailbox()
        for number in (1, 2):
            mailbox.put(number)
        mailbox.discard(1)
        mailbox.discard(3)
        assert await mailbox.get() == 2
        assert len(mailbox) == 0

    asyncio.run(main())


def test_several_tasks_may_wait() -> None:
    async def main() -> None:
        mailbox: Mailbox[int] = Mailbox()
        waiting = [asyncio.create_task(mailbox.get()) for _ in range(3)]
        await asyncio.sleep(0)
        for number in range(3):
            mailbox.put(number)
        async with asyncio.timeout(5):
            assert sorted(await asyncio.gather(*waiting)) == [0, 1, 2]

    asyncio.run(main())


def test_closing_wakes_who_waits_with_an_error_of_its_own() -> None:
    async def main() -> None:
        mailbox: Mailbox[int] = Mailbox()
        waiting = [asyncio.create_task(mailbox.get()) for _ in range(2)]
        await asyncio.sleep(0)
        mailbox.close(ConnectionClosed("over"))
        mailbox.close(ConnectionClosed("too late"))
        one, other = await asyncio.gather(*waiting, return_exceptions=True)
        assert str(one) == str(other) == "over"
        assert one is not other

    asyncio.run(main())


@pytest.mark.parametrize("error", [CacheFull(5, 3), FrameTooLarge(10, 9), ConnectionClosed("x")])
def test_copy_of_an_error_keeps_its_data(error: CacheFull | FrameTooLarge | ConnectionClosed) -> None:
    copy = fresh(error)
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
