"""Petals' WebSocket with a real client, in front of a node without a swarm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from doors import ANY_PORT
from fake_node import FakeNode
from starlette.routing import WebSocketRoute
from waiting import until
from websockets import Origin
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gridnode.control.door_policy import DoorPolicy
from gridnode.control.door_server import serve_door
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope
from gridnode.control.petals.sockets import MAX_QUEUED_MESSAGES, PetalsSockets
from gridnode.errors import CacheFull

OPEN = {"type": "open_inference_session", "model": "tiny", "max_length": 512}
GENERATE = {"type": "generate", "inputs": "hello", "stop_sequence": "###", "do_sample": 0}


async def say(socket: ClientConnection, **message: Any) -> dict[str, Any]:
    await socket.send(json.dumps(message))
    return await hear(socket)


async def hear(socket: ClientConnection) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(await socket.recv())
    return reply


async def turn(socket: ClientConnection, **message: Any) -> list[dict[str, Any]]:
    replies = [await say(socket, **message)]
    while replies[-1]["ok"] and not replies[-1]["stop"]:
        replies.append(await hear(socket))
    return replies


def with_socket(node: FakeNode, act: Callable[[ClientConnection], Awaitable[None]]) -> None:
    async def run() -> None:
        async with serve_door(node, ANY_PORT) as address:
            async with connect(f"ws://{address}/api/v2/generate") as socket:
                await act(socket)
            await until(lambda: node.num_running == 0)

    asyncio.run(run())


def test_a_turn_goes_on_until_the_model_stops_it() -> None:
    node = FakeNode(ending={"stop_text": "###"})

    async def act(socket: ClientConnection) -> None:
        assert await say(socket, **OPEN) == {"ok": True}
        assert await turn(socket, **GENERATE) == [
            {"ok": True, "outputs": "Par", "stop": False, "token_count": 1},
            {"ok": True, "outputs": "is", "stop": False, "token_count": 1},
            {"ok": True, "outputs": ".", "stop": False, "token_count": 1},
            {"ok": True, "outputs": "###", "stop": True, "token_count": 0},
        ]

    with_socket(node, act)
    (asked,) = node.requests
    assert asked.stop == ("###",)
    assert asked.token_ids == tuple(b"hello")
    assert asked.max_tokens == 512 - len("hello")


def test_the_next_inputs_continue_the_tokens_so_far() -> None:
    node = FakeNode(ending={"stop_text": "###"})

    async def act(socket: ClientConnection) -> None:
        await say(socket, **OPEN)
        await turn(socket, **GENERATE)
        await turn(socket, **GENERATE | {"inputs": " again"})

    with_socket(node, act)
    assert node.requests[1].token_ids == (*b"hello", 0, 1, 2, *b" again")


@pytest.mark.parametrize(("found", "kept"), [("</s>", (0, 1)), ("", (0, 1, 2))])
def test_turns_end_with_the_first_stop_whatever_ended_them(found: str, kept: tuple[int, ...]) -> None:
    node = FakeNode(ending={"stop_text": found})

    async def act(socket: ClientConnection) -> None:
        await say(socket, **OPEN)
        wanted = GENERATE | {"extra_stop_sequences": ["</s>"]}
        assert (await turn(socket, **wanted))[-1]["outputs"] == found
        await turn(socket, **wanted | {"inputs": "x"})

    with_socket(node, act)
    assert node.requests[0].stop == ("###", "</s>")
    assert node.requests[1].token_ids == (*b"hello", *kept, *b"###", *b"x")


def test_one_token_at_a_time_is_one_session() -> None:
    node = FakeNode()

    async def act(socket: ClientConnection) -> None:
        await say(socket, **OPEN)
        first = await turn(socket, type="generate", inputs="hello", max_new_tokens=1)
        assert first == [{"ok": True, "outputs": "Par", "stop": True, "token_count": 1}]
        (second,) = await turn(socket, type="generate", max_new_tokens=2)
        assert (second["outputs"], second["token_count"]) == ("is.", 2)
        assert node.num_running == 1

    with_socket(node, act)
    assert len(node.requests) == 1


def test_other_wishes_begin_anew_behind_the_tokens_so_far() -> None:
    node = FakeNode()

    async def act(socket: ClientConnection) -> None:
        await say(socket, **OPEN)
        await turn(socket, type="generate", inputs="hello", max_new_tokens=2)
        await turn(socket, type="generate", max_new_tokens=1, do_sample=1, temperature=0.6)
        assert node.num_running == 1

    with_socket(node, act)
    assert node.requests[1].token_ids == (*b"hello", 0, 1)
    assert node.requests[1].sampling.temperature == 0.6


def test_a_full_session_says_so_and_ends() -> None:
    node = FakeNode(ending={"reason": "length"})

    async def act(socket: ClientConnection) -> None:
        await say(socket, **OPEN)
        last = (await turn(socket, **GENERATE))[-1]
        assert last["ok"] is False
        assert last["traceback"].startswith("Maximum length exceeded: ")
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    with_socket(node, act)


@pytest.mark.parametrize(
    ("messages", "begins"),
    [
        ([OPEN | {"max_length": 9000}], "Maximum length exceeded: 9000 tokens"),
        ([OPEN | {"max_length": 4}, GENERATE], "Maximum length exceeded: 6 tokens"),
        ([GENERATE], "the first message must be"),
        ([OPEN, OPEN], "the session is open already"),
        ([OPEN, {"type": "generate"}], "the first 'generate'"),
        ([{"type": "sing"}], "the message cannot be used"),
        ([OPEN, GENERATE | {"temperature": "hot"}], "the message cannot be used"),
    ],
)
def test_what_cannot_be_done_ends_the_socket(messages: list[dict[str, Any]], begins: str) -> None:
    async def act(socket: ClientConnection) -> None:
        *_, last = [await say(socket, **message) for message in messages]
        assert last["ok"] is False
        assert last["traceback"].startswith(begins)
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    with_socket(FakeNode(), act)


@pytest.mark.parametrize("before", [[], [OPEN]])
def test_a_binary_frame_is_told_and_ends_the_socket(before: list[dict[str, Any]]) -> None:
    async def act(socket: ClientConnection) -> None:
        for message in before:
            await say(socket, **message)
        await socket.send(json.dumps(GENERATE).encode())
        last = await hear(socket)
        assert last["ok"] is False
        assert "text frames" in last["traceback"]
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1003

    with_socket(FakeNode(), act)


def test_a_swarm_without_room_is_told_in_the_words_that_clients_look_for() -> None:
    async def act(socket: ClientConnection) -> None:
        await say(socket, **OPEN)
        last = await say(socket, **GENERATE)
        assert last["traceback"].startswith("attention cache is full: ")
        assert "900" in last["traceback"]

    with_socket(FakeNode(error=CacheFull(900, 100)), act)


def test_leaving_cancels_the_answer() -> None:
    node = FakeNode(hang_after=1)

    async def act(socket: ClientConnection) -> None:
        await say(socket, **OPEN)
        await say(socket, **GENERATE)
        assert node.num_running == 1

    with_socket(node, act)


def test_a_node_that_stops_tells_its_sockets() -> None:
    node = FakeNode(hang_after=1)

    async def run() -> dict[str, Any]:
        async with serve_door(node, ANY_PORT) as address:
            socket = await connect(f"ws://{address}/api/v2/generate")
            await say(socket, **OPEN)
            await say(socket, **GENERATE)
        last = await hear(socket)
        await socket.close()
        return last

    assert asyncio.run(run()) == {"ok": False, "traceback": "the node is stopping"}
    assert node.num_running == 0


@asynccontextmanager
async def limited(node: FakeNode | None = None, **limits: Any) -> AsyncIterator[str]:
    """Serve sockets with other limits; yield their address."""
    node = node or FakeNode()
    route = WebSocketRoute("/limited", PetalsSockets(node, **limits).serve)
    async with serve_door(node, ANY_PORT, pages=[route]) as address:
        yield f"ws://{address}/limited"


def test_a_pause_frees_the_leases_and_loses_nothing() -> None:
    node = FakeNode()

    async def run() -> None:
        async with limited(node, max_pause_s=0.05) as address, connect(address) as socket:
            await say(socket, **OPEN)
            await turn(socket, type="generate", inputs="hello", max_new_tokens=1)
            assert node.num_running == 1
            await until(lambda: node.num_running == 0)
            await turn(socket, type="generate", max_new_tokens=1)

    asyncio.run(run())
    assert node.requests[1].token_ids == (*b"hello", 0)


def test_silence_expires_a_session() -> None:
    async def run() -> None:
        async with limited(max_pause_s=0.02, max_idle_s=0.05) as address, connect(address) as socket:
            await say(socket, **OPEN)
            assert (await hear(socket))["traceback"].startswith("Session expired: ")

    asyncio.run(run())


def test_sockets_are_limited() -> None:
    async def run() -> None:
        async with limited(max_sockets=1) as address, connect(address) as first:
            assert (await say(first, **OPEN))["ok"]
            async with connect(address) as second:
                assert "serves 1 sockets at once" in (await hear(second))["traceback"]

    asyncio.run(run())


def test_who_sends_without_reading_is_shut_out() -> None:
    node = FakeNode(hang_after=1)

    async def act(socket: ClientConnection) -> None:
        await say(socket, **OPEN)
        await say(socket, **GENERATE)
        for _ in range(MAX_QUEUED_MESSAGES + 1):
            await socket.send(json.dumps(GENERATE))
        assert "read the answers" in (await hear(socket))["traceback"]

    with_socket(node, act)


def test_names_of_strangers_get_no_socket() -> None:
    async def run() -> None:
        async with serve_door(FakeNode(), ANY_PORT) as address:
            uri = f"ws://evil.example:{address.port}/api/v2/generate"
            with pytest.raises(InvalidStatus) as refused:
                await connect(uri, host=address.host, port=address.port)
            assert refused.value.response.status_code == 403
            assert b"--api-host" in refused.value.response.body

    asyncio.run(run())


@pytest.mark.parametrize("name", ["127.0.0.1", "evil.example"])
def test_pages_of_strangers_get_a_socket_that_says_why_and_closes(name: str) -> None:
    node = FakeNode()

    async def run() -> None:
        async with serve_door(node, ANY_PORT) as address:
            uri = f"ws://{name}:{address.port}/api/v2/generate"
            origin = Origin("https://evil.example")
            async with connect(uri, host=address.host, port=address.port, origin=origin) as socket:
                assert (await hear(socket))["ok"] is False
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
            assert "is refused" in closed.value.rcvd.reason

    asyncio.run(run())
    assert node.requests == []


def test_a_revoked_key_ends_its_socket_at_the_next_turn(tmp_path: Path) -> None:
    keys, node = KeyFile(tmp_path), FakeNode(ending={"stop_text": "###"})
    key, secret = keys.create("phone", scopes=(Scope.CHAT,))

    async def run() -> None:
        async with serve_door(node, ANY_PORT, policy=DoorPolicy(keys=keys, home_needs_key=True)) as address:
            headers = {"Authorization": f"Bearer {secret}"}
            uri = f"ws://{address}/api/v2/generate"
            async with connect(uri, additional_headers=headers) as socket:
                await say(socket, **OPEN)
                assert (await turn(socket, **GENERATE))[-1]["stop"]
                keys.revoke(key.id)
                assert "was revoked" in (await say(socket, **GENERATE))["traceback"]
            with pytest.raises(InvalidStatus) as refused:
                await connect(uri, additional_headers=headers)
            assert refused.value.response.status_code == 401

    asyncio.run(run())
