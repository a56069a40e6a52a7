"""Opening and closing the door."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import httpx
import pytest
from fake_node import FakeNode

from gridnode.control.door_server import serve_door
from gridnode.core.addresses import Address
from gridnode.errors import AddressInUse, BadInput


async def open_door(address: Address) -> Address:
    async with serve_door(FakeNode(), address) as bound, httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"http://{bound}/health")).status_code == 200
    return bound


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_port_0_takes_a_free_port_and_tells_it(host: str) -> None:
    bound = asyncio.run(open_door(Address(host, 0)))
    assert bound.port > 0
    # The port is free again at once.
    assert asyncio.run(open_door(bound)) == bound


def test_a_port_in_use_names_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(AddressInUse, match=rf"TCP port {port} on 127.0.0.1 .*process {os.getpid()}"):
            asyncio.run(open_door(Address("127.0.0.1", port)))


def test_a_node_open_to_others_is_reached_at_home_as_ever() -> None:
    async def run(host: str) -> None:
        async with serve_door(FakeNode(), Address(host, 0)) as bound:
            assert bound.host == host
            async with httpx.AsyncClient(trust_env=False) as http:
                for home in ("127.0.0.1", "localhost"):
                    url = f"http://127.0.0.1:{bound.port}/api/v1/status"
                    assert (await http.get(url, headers={"Host": home})).status_code == 200

    for host in ("0.0.0.0", "::"):
        asyncio.run(run(host))


def test_an_address_of_another_computer_is_refused() -> None:
    with pytest.raises(BadInput, match=r"cannot listen on TCP 203\.0\.113\.5:7337"):
        asyncio.run(open_door(Address("203.0.113.5", 7337)))


def test_signals_are_left_to_the_node() -> None:
    async def run() -> None:
        before = signal.getsignal(signal.SIGINT)
        async with serve_door(FakeNode(), Address("127.0.0.1", 0)):
            await asyncio.sleep(0)
            assert signal.getsignal(signal.SIGINT) is before

    asyncio.run(run())
