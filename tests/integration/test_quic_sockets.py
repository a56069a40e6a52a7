"""The one UDP socket of a node: ports, addresses, and packets beside QUIC."""

from __future__ import annotations

import asyncio
import os

import pytest
from quic_nodes import TIMEOUT_S, node, run
from waiting import until

from gridnode.core.addresses import Address
from gridnode.errors import AddressInUse, BadInput, PeerLost
from gridnode.net.identity import Identity
from gridnode.net.quic import QuicTransport


def test_small_first_bytes_go_to_the_raw_hook() -> None:
    async def main() -> None:
        seen: list[bytes] = []
        async with node(on_raw=lambda data, _: seen.append(data)) as one, node() as other:
            destination = tuple(one.address)
            for packet in (b"\x0fping", b"\x3f", b"\x40quic", b"\x80neither"):
                other.endpoint.send_raw(packet, destination)
            other.endpoint.send_raw(b"\x0elast", destination)
            await until(lambda: b"\x0elast" in seen)
            assert seen == [b"\x0fping", b"\x3f", b"\x0elast"]

    run(main())


def test_two_nodes_may_dial_each_other_at_once() -> None:
    async def main() -> None:
        async with node() as one, node() as other, asyncio.TaskGroup() as group:
            group.create_task(one.dial(other.address, peer_id=other.peer_id, timeout_s=TIMEOUT_S))
            group.create_task(other.dial(one.address, peer_id=one.peer_id, timeout_s=TIMEOUT_S))
            assert not (await one.accept()).is_client
            assert not (await other.accept()).is_client

    run(main())


def test_port_in_use_names_who_holds_it() -> None:
    async def main() -> None:
        async with node() as first:
            with pytest.raises(
                AddressInUse, match=rf"UDP port {first.address.port} .* process {os.getpid()}"
            ):
                QuicTransport(Identity.generate(), first.address)

    run(main())


def test_foreign_address_cannot_be_bound() -> None:
    async def main() -> None:
        with pytest.raises(BadInput, match=r"192\.0\.2\.1:0"):
            QuicTransport(Identity.generate(), Address("192.0.2.1", 0))

    run(main())


def test_unreachable_address_is_noticed_at_once() -> None:
    async def main() -> None:
        async with node() as client:
            # The kernel refuses to broadcast from a plain socket: nothing leaves this machine.
            with pytest.raises(PeerLost, match=r"cannot reach 255\.255\.255\.255:9"):
                await client.dial(Address("255.255.255.255", 9), peer_id=None, timeout_s=TIMEOUT_S)

    run(main())


@pytest.mark.parametrize(
    "address", [Address("fd9c:3a7e:51d4::1", 2**40), Address("fd9c:3a7e:51d4:\0", 1)], ids=["port", "host"]
)
def test_what_only_looks_like_the_address_of_a_peer_behind_relays_is_refused(address: Address) -> None:
    async def main() -> None:
        async with node() as one:
            with pytest.raises(BadInput, match="no address of a peer"):
                await one.dial(address, peer_id=None, timeout_s=TIMEOUT_S)

    run(main())


def test_ipv6_socket_reaches_ipv4_and_ipv6() -> None:
    async def main() -> None:
        async with node() as four:
            try:
                both = QuicTransport(Identity.generate(), Address("::", 0))
                loopback = QuicTransport(Identity.generate(), Address("::1", 0))
            except BadInput as exc:
                pytest.skip(f"no IPv6 here: {exc}")
            to_four = await both.dial(four.address, peer_id=four.peer_id, timeout_s=TIMEOUT_S)
            assert to_four.address == four.address
            to_six = await both.dial(loopback.address, peer_id=loopback.peer_id, timeout_s=TIMEOUT_S)
            assert to_six.address == loopback.address
            back = await four.dial(
                Address("127.0.0.1", both.address.port), peer_id=both.peer_id, timeout_s=TIMEOUT_S
            )
            assert back.peer_id == both.peer_id
            await both.aclose()
            await loopback.aclose()

    run(main())
