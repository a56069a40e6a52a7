"""What nodes tell everybody on the LAN, and how they follow each other; on the loopback interface."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from waiting import until
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from gridnode.core.addresses import Address
from gridnode.core.swarm_secret import opaque_id
from gridnode.net import discovery
from gridnode.net.discovery import SERVICE_TYPE, LanDiscovery, LanPeer, from_service, to_service

LOOPBACK = ["127.0.0.1"]


def fingerprint(swarm: str) -> str:
    return opaque_id(swarm, b"", purpose="lan").hex()


def lan_peer(swarm: str = "home") -> LanPeer:
    """Return a node that no other test has."""
    return LanPeer(
        id_prefix=secrets.token_hex(8),
        fingerprint=fingerprint(swarm),
        addresses=(Address("192.0.2.7", 7338), Address("192.0.2.8", 7338)),
    )


class Watcher:
    """A node that remembers what it found."""

    def __init__(
        self, me: LanPeer, *, also: Sequence[str] = (), ttl_s: int = 120, check_interval_s: float = 20.0
    ) -> None:
        self.me = me
        self.found: dict[str, LanPeer] = {}
        self.discovery = LanDiscovery(
            me,
            also=also,
            on_found=self.found.__setitem__,
            on_lost=lambda name: self.found.pop(name, None),
            ttl_s=ttl_s,
            check_interval_s=check_interval_s,
        )

    def sees(self, *others: LanPeer) -> bool:
        """Return whether exactly `others` of this test's swarm are found."""
        return {peer.id_prefix for peer in self.found.values()} == {peer.id_prefix for peer in others}


@asynccontextmanager
async def running(watcher: Watcher) -> AsyncIterator[Watcher]:
    task = asyncio.create_task(watcher.discovery.run(LOOPBACK))
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.wait([task])


def swarm_name() -> str:
    """Other tests use the same network at the same time."""
    return secrets.token_hex(8)


def test_an_announcement_says_what_it_was_made_of() -> None:
    peer = lan_peer()
    read = from_service(to_service(peer))
    assert read is not None
    assert (read.id_prefix, read.fingerprint, set(read.addresses)) == (
        peer.id_prefix,
        peer.fingerprint,
        set(peer.addresses),
    )


def test_an_announcement_tells_no_secrets() -> None:
    peer = lan_peer("grandma's swarm")
    service = to_service(peer)
    assert service.decoded_properties == {"v": "1", "id": peer.id_prefix, "swarm": peer.fingerprint}
    assert service.server == f"gridnode-{peer.id_prefix}.local."
    assert b"grandma" not in service.text
    assert peer.fingerprint == fingerprint("grandma's swarm") != fingerprint("home")


def test_records_live_for_two_minutes() -> None:
    service = to_service(lan_peer())
    assert {service.dns_pointer().ttl, service.dns_service().ttl, service.dns_text().ttl} == {120}


@pytest.mark.parametrize(
    "properties",
    [{}, {"v": "2"}, {"id": "short"}, {"id": "x" * 200}, {"v": None}, {"id": b"\xff" * 16}],
    ids=["nothing", "version", "short id", "long id", "no value", "no text"],
)
def test_what_is_not_ours_is_ignored(properties: dict[str, object]) -> None:
    said = {"v": "1", "id": "a" * 16, "swarm": "0" * 16, **properties} if properties else {}
    service = AsyncServiceInfo(
        SERVICE_TYPE, f"x.{SERVICE_TYPE}", port=7338, properties=said, parsed_addresses=["192.0.2.7"]
    )
    read = from_service(service)
    # Bytes that are no text give an id that no node has.
    assert read is None or not read.id_prefix.isascii()


@pytest.mark.parametrize("host", ["224.0.0.251", "0.0.0.0", "169.254.1.1", "255.255.255.255", "ff02::1"])
def test_addresses_that_lead_nowhere_are_ignored(host: str) -> None:
    assert from_service(to_service(replace(lan_peer(), addresses=(Address(host, 7338),)))) is None


def test_only_some_addresses_of_an_announcement_are_used() -> None:
    many = tuple(Address(f"192.0.2.{i}", 7338) for i in range(100))
    read = from_service(to_service(replace(lan_peer(), addresses=many)))
    assert read is not None
    assert len(read.addresses) == discovery.MAX_SERVICE_ADDRESSES


def test_nodes_of_one_swarm_find_each_other_and_say_goodbye() -> None:
    async def scenario() -> None:
        swarm = swarm_name()
        a, b = Watcher(lan_peer(swarm)), Watcher(lan_peer(swarm))
        stranger = Watcher(lan_peer(swarm_name()))
        async with running(a), running(stranger):
            async with running(b):
                await until(lambda: a.sees(b.me) and b.sees(a.me))
            await until(lambda: a.sees())
            assert b.sees()
        assert stranger.sees()

    asyncio.run(scenario())


def test_a_swarm_whose_key_is_being_replaced_is_found_under_both_ids() -> None:
    async def scenario() -> None:
        old, new = swarm_name(), swarm_name()
        a, b = Watcher(lan_peer(new), also=[fingerprint(old)]), Watcher(lan_peer(old))
        async with running(a), running(b):
            await until(lambda: a.sees(b.me))
            assert b.sees(), "who has the new key dials"

    asyncio.run(scenario())


def test_a_node_that_vanished_is_lost_when_its_announcement_expires_and_found_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "RESOLVE_TIMEOUT_S", 0.3)

    async def scenario() -> None:
        swarm = swarm_name()
        a = Watcher(lan_peer(swarm), check_interval_s=0.1)
        b = lan_peer(swarm)
        async with running(a):
            for _ in range(2):
                vanishing = AsyncZeroconf(interfaces=LOOPBACK)
                await (
                    await vanishing.async_register_service(
                        to_service(b, ttl_s=1), cooperating_responders=True
                    )
                )
                await until(lambda: a.sees(b))
                vanishing.zeroconf.registry.async_remove(
                    vanishing.zeroconf.registry.async_get_service_infos()
                )
                await vanishing.async_close()  # nothing is registered any more: no goodbye
                assert a.sees(b)
                await until(lambda: a.sees(), timeout_s=10)

    asyncio.run(scenario())


def test_new_addresses_are_told() -> None:
    async def scenario() -> None:
        swarm = swarm_name()
        a, b = Watcher(lan_peer(swarm)), lan_peer(swarm)
        async with running(a):
            async with running(Watcher(b)):
                await until(lambda: a.sees(b))
            moved = replace(b, addresses=(Address("192.0.2.9", 7338),))
            async with running(Watcher(moved)):
                await until(lambda: list(a.found.values()) == [moved])

    asyncio.run(scenario())


def test_addresses_that_are_gone_are_forgotten_soon() -> None:
    async def scenario() -> None:
        swarm = swarm_name()
        a, b = Watcher(lan_peer(swarm)), lan_peer(swarm)
        moved = replace(b, addresses=(Address("192.0.2.9", 7338),))
        async with running(a):
            moving = AsyncZeroconf(interfaces=LOOPBACK)
            try:
                await (await moving.async_register_service(to_service(b), cooperating_responders=True))
                await until(lambda: a.sees(b))
                await asyncio.sleep(1.1)  # younger records are not replaced (RFC 6762, 10.2)
                await (await moving.async_update_service(to_service(moved)))
                await until(lambda: list(a.found.values()) == [moved], timeout_s=5)
            finally:
                await moving.async_close()

    asyncio.run(scenario())


def test_no_more_announcements_are_followed_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_SERVICES", 3)

    async def scenario() -> None:
        swarm = swarm_name()
        flood = AsyncZeroconf(interfaces=LOOPBACK)
        a = Watcher(lan_peer(swarm))
        try:
            for _ in range(6):
                await flood.async_register_service(to_service(lan_peer(swarm)), cooperating_responders=True)
            async with running(a):
                await until(lambda: len(a.found) == 3 or len(a.discovery._followed) == 3)
                assert len(a.discovery._followed) == 3
        finally:
            await flood.async_close()

    asyncio.run(scenario())
