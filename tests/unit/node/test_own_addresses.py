"""Keeping a port of the router mapped, before routers that come, go and change their minds."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from descriptors import no_descriptors
from waiting import until

from gridnode.core.addresses import Address
from gridnode.net.gateways import Gateway, NoMapping
from gridnode.net.port_mapping import MappingProtocol, PortMapping
from gridnode.node import own_addresses
from gridnode.node.own_addresses import OwnAddresses

HOME = Gateway(host="192.168.1.1", local_host="192.168.1.7")
CAFE = Gateway(host="10.0.0.1", local_host="10.0.0.7")
BOUND = Address("192.168.1.7", 7338)
OUTSIDE = Address("8.8.4.4", 7338)
REFUSED = NoMapping("the router 192.168.1.1 does not take NAT-PMP, and does not answer to UPnP")


class Router:
    """What the node asks; `answers` says with what, the last one for ever."""

    def __init__(self, *answers: PortMapping | NoMapping, gateway: Gateway | None = HOME) -> None:
        self.answers = list(answers)
        self.gateway = gateway
        self.wanted: list[int] = []
        self.ended: list[PortMapping] = []
        self.changes = 0
        self.own = OwnAddresses(
            True, on_change=self._changed, find=lambda bound: self.gateway, ask=self._ask, end=self._end
        )
        self.own.begin(BOUND)

    def _changed(self) -> None:
        self.changes += 1

    async def _ask(self, gateway: Gateway, port: int, *, wanted: int) -> PortMapping:
        assert port == BOUND.port
        self.wanted.append(wanted)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NoMapping):
            raise answer
        return replace(answer, gateway=gateway)

    async def _end(self, mapping: PortMapping) -> None:
        self.ended.append(mapping)


def mapping(external: Address = OUTSIDE, *, lease_s: float = 900.0) -> PortMapping:
    return PortMapping(
        protocol=MappingProtocol.UPNP,
        gateway=HOME,
        internal_port=BOUND.port,
        external=external,
        lease_s=lease_s,
    )


def keep(router: Router, watch: Callable[[], Awaitable[None]]) -> None:
    """Let the node keep its port while `watch` runs, then end it."""

    async def main() -> None:
        keeping = asyncio.create_task(router.own.run())
        try:
            await watch()
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
        assert keeping.cancelled() or not keeping.exception()

    asyncio.run(main())


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIN_RENEWAL_S", "RETRY_S", "LAPSE_RETRY_S", "LOOK_INTERVAL_S"):
        monkeypatch.setattr(own_addresses, name, 0.001)


def test_a_mapped_port_is_announced_and_given_back() -> None:
    router = Router(mapping())

    async def watch() -> None:
        await until(lambda: router.own.addresses == (BOUND, OUTSIDE))
        status = router.own.status()
        assert status is not None
        assert (status.router, status.protocol, status.address) == (HOME.host, "UPnP", "8.8.4.4:7338")

    keep(router, watch)
    assert router.changes == 1
    assert [ended.external for ended in router.ended] == [OUTSIDE]


def test_the_port_that_the_router_chose_is_wanted_again(hurry: None) -> None:
    other = Address("8.8.4.4", 50000)
    router = Router(mapping(other, lease_s=0.002))

    async def watch() -> None:
        await until(lambda: len(router.wanted) >= 3)

    keep(router, watch)
    assert router.wanted[:3] == [7338, 50000, 50000]
    assert router.changes == 1  # nothing new was to be told


def test_another_address_outside_is_told(hurry: None) -> None:
    router = Router(mapping(lease_s=0.002), mapping(Address("8.8.8.8", 7338)))

    async def watch() -> None:
        await until(lambda: router.own.addresses[-1].host == "8.8.8.8")

    keep(router, watch)
    assert router.changes == 2


def test_a_refusal_is_told_and_the_router_asked_again(hurry: None) -> None:
    router = Router(REFUSED, REFUSED, mapping())

    async def watch() -> None:
        await until(lambda: len(router.wanted) >= 1)
        await until(lambda: router.own.addresses == (BOUND, OUTSIDE))

    keep(router, watch)
    assert router.changes == 1


def test_why_nobody_is_let_in_is_known() -> None:
    hidden = NoMapping("the router 192.168.1.1 itself has the address 10.0.0.2", is_router_hidden=True)
    router = Router(hidden)

    async def watch() -> None:
        await until(lambda: (status := router.own.status()) is not None and status.problem)
        status = router.own.status()
        assert status is not None
        assert status.problem == str(hidden)
        assert status.router_is_hidden
        assert not status.address

    keep(router, watch)
    assert router.own.addresses == (BOUND,)
    assert not router.ended


def test_what_is_not_renewed_counts_while_its_lease_lasts() -> None:
    router = Router(mapping(), REFUSED)

    async def watch() -> None:
        await until(lambda: router.changes == 1)
        router.own.suspect()
        await until(lambda: (status := router.own.status()) is not None and status.problem)
        assert router.own.addresses == (BOUND, OUTSIDE)

    keep(router, watch)
    assert router.changes == 1


def test_what_is_not_renewed_ends_with_its_lease(hurry: None) -> None:
    router = Router(mapping(lease_s=0.001), REFUSED)

    async def watch() -> None:
        await until(lambda: router.changes == 2)
        assert router.own.addresses == (BOUND,)

    keep(router, watch)
    assert not router.ended


def test_a_computer_that_moved_asks_its_new_router(hurry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_addresses, "MIN_RENEWAL_S", 900.0)
    router = Router(mapping(Address("8.8.4.4", 50000)), mapping(Address("8.8.8.8", 7338)))

    async def watch() -> None:
        await until(lambda: router.changes == 1)
        router.gateway = CAFE
        router.own.suspect()
        await until(lambda: router.changes == 2)

    keep(router, watch)
    assert router.wanted == [7338, 7338]
    assert [ended.gateway for ended in router.ended] == [CAFE]


def test_a_network_without_a_router_is_looked_at_again(hurry: None) -> None:
    router = Router(mapping(), gateway=None)

    async def watch() -> None:
        assert router.own.status() is None
        router.gateway = HOME
        await until(lambda: router.changes == 1)

    keep(router, watch)


@pytest.mark.parametrize(
    ("maps_port", "bound"), [(False, BOUND), (True, Address("127.0.0.1", 7338)), (True, Address("::1", 7338))]
)
def test_nobody_is_asked_where_nobody_is_to_be_let_in(maps_port: bool, bound: Address) -> None:
    def find(host: str) -> Gateway | None:
        raise AssertionError("the routes were looked at")

    own = OwnAddresses(maps_port, on_change=lambda: None, find=find)
    own.begin(bound)
    asyncio.run(own.run())
    assert own.addresses == (bound,)
    assert own.status() is None


def test_who_has_a_public_address_asks_nobody() -> None:
    asked = asyncio.Event()

    def find(bound: str) -> Gateway:
        asked.set()
        return Gateway(host="8.8.4.1", local_host="8.8.4.4")

    router = Router(mapping())
    router.own = OwnAddresses(True, on_change=lambda: None, find=find, ask=router._ask)
    router.own.begin(Address("8.8.4.4", 7338))

    async def watch() -> None:
        await until(asked.is_set)

    keep(router, watch)
    assert not router.wanted


def test_a_router_that_cannot_be_looked_for_now_keeps_what_it_gave(hurry: None) -> None:
    router = Router(mapping(lease_s=0.002))
    looks = 0

    def find(bound: str) -> Gateway:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return HOME

    router.own._find = find

    async def watch() -> None:
        await until(lambda: looks > 3)
        assert router.own.addresses == (BOUND, OUTSIDE)
        status = router.own.status()
        assert status is not None
        assert status.address == str(OUTSIDE)

    keep(router, watch)
    assert router.changes == 1


def test_addresses_that_cannot_be_looked_at_are_what_they_were() -> None:
    own = OwnAddresses(False, on_change=lambda: None)
    own.begin(Address("0.0.0.0", 7338))
    before = own.addresses
    with no_descriptors():
        assert own.addresses == before
