"""The client of the door against the real door."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from fake_node import STATUS, FakeNode
from waiting import until

from gridnode.control.answer_schema import Delta, Finished, GenerateRequest, Started
from gridnode.control.client import ControlClient
from gridnode.control.door_server import serve_door
from gridnode.core.addresses import Address
from gridnode.errors import CacheFull, GridError, NotRunning, PeerLost, ProtocolError

ANY_PORT = Address("127.0.0.1", 0)
QUESTION = GenerateRequest(prompt="The capital of France is")


async def answer(node: FakeNode) -> list[Started | Delta | Finished]:
    async with serve_door(node, ANY_PORT) as address, ControlClient(address) as client:
        return [event async for event in client.run(QUESTION)]


def test_an_answer_arrives_event_by_event() -> None:
    events = asyncio.run(answer(FakeNode(words=("Par", "is", " 🗼\n\n"))))
    assert [event.event for event in events] == ["started", "delta", "delta", "delta", "finished"]
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "Paris 🗼\n\n"


def test_the_status_is_a_record() -> None:
    async def run() -> None:
        async with serve_door(FakeNode(), ANY_PORT) as address, ControlClient(address) as client:
            assert await client.status() == STATUS

    asyncio.run(run())


@pytest.mark.parametrize("fail_after", [None, 1])
def test_errors_come_back_with_their_class(fail_after: int | None) -> None:
    with pytest.raises(CacheFull, match="cannot lease 900 tokens"):
        asyncio.run(answer(FakeNode(error=CacheFull(900, 100), fail_after=fail_after)))


def test_closing_the_answer_cancels_it() -> None:
    node = FakeNode(hang_after=1)

    async def run() -> None:
        async with serve_door(node, ANY_PORT) as address, ControlClient(address) as client:
            async with aclosing(client.run(QUESTION)) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        break
            await until(lambda: node.num_running == 0)

    asyncio.run(run())


def test_nobody_there_says_what_to_start() -> None:
    async def run() -> None:
        async with serve_door(FakeNode(), ANY_PORT) as address:
            pass  # the port was free, and is again
        async with ControlClient(address) as client:
            with pytest.raises(NotRunning, match=r"gridnode up"):
                await client.status()
            with pytest.raises(NotRunning):
                await client.wait_ready(timeout_s=0.0)

    asyncio.run(run())


def test_waiting_for_ready_follows_the_engine() -> None:
    node = FakeNode()
    node.with_engine("loading", loaded_blocks=1, wanted_blocks=2)

    async def run() -> None:
        async with serve_door(node, ANY_PORT) as address, ControlClient(address) as client:
            assert not (await client.wait_ready(timeout_s=0.0)).ready
            waiting = asyncio.create_task(client.wait_ready(timeout_s=20.0))
            node.current = STATUS
            assert (await waiting).ready

    asyncio.run(run())


def serve_raw(reply: bytes) -> type[GridError]:
    """Return the class of the error that a client raises if `reply` is what comes back."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()
        await writer.wait_closed()

    async def run() -> type[GridError]:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
            async with ControlClient(address) as client:
                with pytest.raises(GridError) as caught:
                    _ = [event async for event in client.run(QUESTION)]
        return type(caught.value)

    return asyncio.run(run())


def test_another_server_on_the_port_is_named_as_such() -> None:
    assert serve_raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnope!") is ProtocolError


def test_a_node_that_dies_in_the_middle_is_lost() -> None:
    started = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert serve_raw(started + b"f\r\nevent: started\n\r\n") is PeerLost
    assert serve_raw(started + b"0\r\n\r\n") is PeerLost
