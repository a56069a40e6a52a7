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


def test_only_loopback_is_opened_while_there_are_no_keys() -> None:
    with pytest.raises(BadInput, match="loopback"):
        asyncio.run(open_door(Address("0.0.0.0", 7337)))


def test_signals_are_left_to_the_node() -> None:
    async def run() -> None:
        before = signal.getsignal(signal.SIGINT)
        async with serve_door(FakeNode(), Address("127.0.0.1", 0)):
            await asyncio.sleep(0)
            assert signal.getsignal(signal.SIGINT) is before

    asyncio.run(run())
