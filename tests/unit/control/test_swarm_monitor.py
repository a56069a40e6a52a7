from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from fake_node import FakeHistory, FakeNode
from fake_swarm import small_swarm
from waiting import until

from gridnode.control.history import Activity
from gridnode.control.swarm_monitor import SwarmMonitor, discreet
from gridnode.errors import PeerLost


def node_with_silent_peer() -> FakeNode:
    status = small_swarm()
    peers = tuple(
        replace(p, state="online", path="none") if i == 1 else p for i, p in enumerate(status.peers)
    )
    return FakeNode(current=replace(status, peers=peers), silent=frozenset({peers[1].peer_id}))


def test_addresses_are_published_by_their_owners_only() -> None:
    status = small_swarm()
    open_hearted = replace(status.peers[1], publishes_address=True)
    node = FakeNode(current=replace(status, peers=(status.peers[0], open_hearted, *status.peers[2:])))
    shown = SwarmMonitor(node).status().peers
    assert shown[0].address == status.peers[0].address  # the monitor's own
    assert shown[1].address == open_hearted.address
    assert {peer.address for peer in shown[2:]} == {""}


def test_a_peer_that_does_not_answer_is_unreachable_with_the_reason() -> None:
    async def scenario() -> None:
        node = node_with_silent_peer()
        monitor = SwarmMonitor(node)
        watching = asyncio.create_task(monitor.watch())
        await until(lambda: monitor.status().peers[1].state == "unreachable")
        assert "does not answer" in monitor.status().peers[1].problem
        assert monitor.status().peers[2].state == "online"
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    asyncio.run(scenario())


def test_asking_again_does_not_dial_again() -> None:
    async def scenario() -> None:
        node = node_with_silent_peer()
        dialled: list[str] = []

        async def reach(peer_id: str) -> float | None:
            dialled.append(peer_id)
            await asyncio.sleep(0)
            raise PeerLost("silent")

        node.reach = reach  # type: ignore[method-assign]
        monitor = SwarmMonitor(node)
        wanted = node.current.peers[1].peer_id
        await asyncio.gather(*(monitor.reach(wanted) for _ in range(20)), return_exceptions=True)
        with pytest.raises(PeerLost):
            await monitor.reach(wanted)
        assert dialled == [wanted]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nobody answers at 192.0.2.7:7338, 10.0.0.1", "nobody answers at (), ()"),
        ("dial [2001:db8::1]:7338: lost", "dial (): lost"),
        ("from 2001:db8:0:1:2:3:4:5 on", "from () on"),
        ("serves blocks 0:20 of gs3mkmbd 20:44", "serves blocks 0:20 of gs3mkmbd 20:44"),
        ("4096 tokens wanted, 812 free; version 0.1.0", "4096 tokens wanted, 812 free; version 0.1.0"),
    ],
)
def test_addresses_are_taken_out_of_texts(text: str, shown: str) -> None:
    assert discreet(text).replace("(address not published)", "()") == shown


def test_history_is_read_without_addresses() -> None:
    async def scenario() -> None:
        happened = Activity(at=0.0, kind="refused", peer_id="a", public_name="", text="lost 192.0.2.7:1")
        node = FakeNode(history=FakeHistory(activities=(happened,)))
        (found,) = await SwarmMonitor(node).history.activity()
        assert "192.0.2.7" not in found.text

    asyncio.run(scenario())
