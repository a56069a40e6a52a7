"""Where a client takes its key from."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from fake_node import STATUS, FakeNode

from gridnode.control.client import ControlClient
from gridnode.control.client_key import client_key
from gridnode.control.door import create_door
from gridnode.control.door_policy import DoorPolicy
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope
from gridnode.core.addresses import Address
from gridnode.errors import BadInput, KeyRefused, RateLimited


def test_the_environment_or_a_file_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("gn-from-file\n")
    assert client_key({}) == ""
    assert client_key({"GRIDNODE_API_KEY": " gn-direct "}) == "gn-direct"
    assert client_key({"GRIDNODE_API_KEY_FILE": str(file)}) == "gn-from-file"
    assert client_key({"GRIDNODE_API_KEY": "gn-direct", "GRIDNODE_API_KEY_FILE": "/nowhere"}) == "gn-direct"


def test_what_is_no_key_is_named_and_not_repeated(tmp_path: Path) -> None:
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.write_text("\n")
    other.write_text("secret words\nof a diary")
    for path, part in (
        (empty, "there is no key in"),
        (other, "not a key"),
        (tmp_path / "none", "cannot read"),
    ):
        with pytest.raises(BadInput, match=part) as caught:
            client_key({"GRIDNODE_API_KEY_FILE": str(path)})
        assert str(path) in str(caught.value)
        assert "diary" not in str(caught.value)
    with pytest.raises(BadInput, match="GRIDNODE_API_KEY holds is not a key"):
        client_key({"GRIDNODE_API_KEY": "gn-“quoted”"})


def test_a_client_shows_it_at_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = KeyFile(tmp_path).create("laptop", scopes=(Scope.MONITOR,), requests_per_minute=2)
    door = create_door(FakeNode(), policy=DoorPolicy(keys=KeyFile(tmp_path)))
    transport = httpx.ASGITransport(door, client=("192.0.2.9", 40000))
    monkeypatch.setattr("gridnode.control.client.httpx.AsyncClient", _with(transport))
    address = Address("192.0.2.2", 7337)

    async def run() -> None:
        monkeypatch.setenv("GRIDNODE_API_KEY", secret)
        async with ControlClient(address) as client:
            assert await client.status() == STATUS
            await client.status()
            with pytest.raises(RateLimited, match="2 requests per minute") as limited:
                await client.status()
            assert limited.value.limit == 2
        async with ControlClient(address, key="") as client:
            with pytest.raises(KeyRefused, match="GRIDNODE_API_KEY"):
                await client.status()

    asyncio.run(run())


def _with(transport: httpx.ASGITransport) -> type[httpx.AsyncClient]:
    class Client(httpx.AsyncClient):
        def __init__(self, **arguments: object) -> None:
            super().__init__(transport=transport, **arguments)  # type: ignore[arg-type]

    return Client


def test_everywhere_is_reached_at_home() -> None:
    assert ControlClient(Address("0.0.0.0", 7337)).address == Address("127.0.0.1", 7337)
    assert ControlClient(Address("192.0.2.2", 7337)).address == Address("192.0.2.2", 7337)
