"""Following the network interfaces of this machine."""

from __future__ import annotations

import asyncio

import pytest
from descriptors import no_descriptors
from waiting import until

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId
from gridnode.net.transport import Connection, Stream
from gridnode.node import lan
from gridnode.node.lan import Lan
from gridnode.node.links import Links


async def nothing(_: Connection | Stream) -> None:
    """Nobody connects here."""


def test_a_look_at_the_interfaces_that_fails_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan, "LOOK_INTERVAL_S", 0.001)
    looks = changes = 0

    def fingerprints() -> tuple[str, ...]:
        nonlocal looks
        looks += 1
        return ("0" * 16,)

    def changed() -> None:
        nonlocal changes
        changes += 1

    async def main() -> None:
        links = Links(PeerId(bytes(32)), on_stream=nothing, on_connection=nothing, admit=nothing)
        following = Lan(links, fingerprints=fingerprints, mdns=False, on_change=changed)
        following.begin(Address("0.0.0.0", 7338))
        running = asyncio.create_task(following.run())
        await until(lambda: looks > 2)
        with no_descriptors():
            before = looks
            await until(lambda: looks > before + 2 or running.done())
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(main())
    assert changes == 0
