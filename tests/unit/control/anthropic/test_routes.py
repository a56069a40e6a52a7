"""Anthropic's dialect over real HTTP, in front of a node without a swarm."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from doors import ask_and_leave, with_door
from fake_node import HOP, FakeNode

from gridnode.control.answer_schema import GenerateRequest, Rerouted, ToolCall, Waiting
from gridnode.control.anthropic.streaming import MessageEncoder
from gridnode.errors import CacheFull, ContextFull, EngineLost, GridError, ModelUnknown, PeerLost

ASK: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "the capital"}],
}
CALL = ToolCall(id="call_1", name="weather", arguments='{"city": "Köln"}')


def events(response: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """Return names and data; every event names itself twice."""
    found = []
    for event in response.text.strip().split("\n\n"):
        if not event.startswith(":"):
            name, data = event.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    assert all(name == data["type"] for name, data in found)
    return found


def test_a_message_is_answered_as_a_whole() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        response = await http.post("/v1/messages", json=ASK)
        answer = response.json()
        assert answer["id"].startswith("msg_")
        assert (answer["type"], answer["role"], answer["model"]) == ("message", "assistant", "tiny")
        assert answer["content"] == [{"type": "text", "text": "Paris."}]
        assert (answer["stop_reason"], answer["stop_sequence"]) == ("end_turn", None)
        assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (5, 3)
        assert answer["gridnode"]["route"][0]["short"] == "aaaaaaaa"
        assert response.headers["x-gridnode-route"] == "aaaaaaaa 0:30"

    with_door(FakeNode(), act)


def test_a_stream_has_the_official_sequence() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        response = await http.post("/v1/messages", json=ASK | {"stream": True})
        assert response.headers["content-type"].startswith("text/event-stream")
        found = events(response)
        assert [name for name, _ in found] == [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        start = found[0][1]["message"]
        assert (start["content"], start["stop_reason"], start["usage"]["input_tokens"]) == ([], None, 5)
        assert found[2][1] == {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        }
        assert found[3][1]["delta"] == {"type": "text_delta", "text": "Par"}
        end = found[-2][1]
        assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
        assert end["usage"]["output_tokens"] == 3

    with_door(FakeNode(), act)


def test_calls_of_tools_are_blocks_of_their_own() -> None:
    node = FakeNode(ending={"reason": "tool_calls", "tool_calls": (CALL, replace(CALL, id="call_2"))})
    block = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Köln"}}

    async def act(http: httpx.AsyncClient) -> None:
        whole = (await http.post("/v1/messages", json=ASK)).json()
        assert whole["content"] == [{"type": "text", "text": "Paris."}, block, block | {"id": "call_2"}]
        assert whole["stop_reason"] == "tool_use"
        one = ASK | {"stream": True, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
        found = events(await http.post("/v1/messages", json=one))
        begun = [data for name, data in found if name == "content_block_start"]
        assert [data["index"] for data in begun] == [0, 1]
        assert begun[1]["content_block"] == block | {"input": {}}
        (grown,) = (
            data["delta"] for name, data in found if name.endswith("delta") and data.get("index") == 1
        )
        assert json.loads(grown["partial_json"]) == {"city": "Köln"}
        assert sum(name == "content_block_stop" for name, _ in found) == 2

    with_door(node, act)


@pytest.mark.parametrize(
    ("ending", "max_tokens", "reason", "sequence"),
    [
        ({"stop_text": "END"}, 16, "stop_sequence", "END"),
        ({"reason": "length"}, 3, "max_tokens", None),
        ({"reason": "length"}, 16, "model_context_window_exceeded", None),
    ],
)
def test_it_says_why_it_ended(
    ending: dict[str, Any], max_tokens: int, reason: str, sequence: str | None
) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        answer = (await http.post("/v1/messages", json=ASK | {"max_tokens": max_tokens})).json()
        assert (answer["stop_reason"], answer["stop_sequence"]) == (reason, sequence)

    with_door(FakeNode(ending=ending), act)


@pytest.mark.parametrize(
    ("error", "status", "kind", "part"),
    [
        (ContextFull(9001, 8192), 400, "invalid_request_error", "prompt is too long: 9001 tokens > 8192"),
        (ModelUnknown("nobody serves llama"), 404, "not_found_error", "nobody serves llama"),
        (CacheFull(900, 100), 503, "overloaded_error", "900"),
        (EngineLost("the engine died"), 502, "api_error", "the engine died"),
    ],
)
def test_errors_are_told_as_anthropic_does(error: GridError, status: int, kind: str, part: str) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        for stream in (False, True):
            response = await http.post("/v1/messages", json=ASK | {"stream": stream})
            assert response.status_code == status
            assert (response.json()["type"], response.json()["error"]["type"]) == ("error", kind)
            assert part in response.json()["error"]["message"]
            assert ("retry-after" in response.headers) == (status == 503)

    with_door(FakeNode(error=error), act)


def test_an_error_in_the_middle_is_the_last_event() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        name, data = events(await http.post("/v1/messages", json=ASK | {"stream": True}))[-1]
        assert name == "error"
        assert data["error"]["message"] == "bbbbbbbb is gone"

    with_door(FakeNode(error=PeerLost("bbbbbbbb is gone"), fail_after=2), act)


def test_what_concerns_anthropic_itself_is_passed_over() -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    wanted = ASK | {
        "system": [{"type": "text", "text": "be brief"} | cached],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"} | cached]}],
        "tools": [{"name": "weather", "input_schema": {"type": "object"}} | cached],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "context_management": {"edits": []},
    }

    async def act(http: httpx.AsyncClient) -> None:
        response = await http.post("/v1/messages?beta=true", json=wanted, headers={"anthropic-beta": "x"})
        assert response.status_code == 200, response.text

    with_door(FakeNode(), act)


def test_bad_requests_name_the_field() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        for body, part in ((b"{", "truncated"), (b'{"model": "tiny"}', "messages")):
            response = await http.post("/v1/messages", content=body)
            assert response.status_code == 400
            assert part in response.json()["error"]["message"]

    with_door(FakeNode(), act)


def test_readers_who_leave_cancel_the_answer() -> None:
    node = FakeNode(hang_after=1)

    async def act(http: httpx.AsyncClient) -> None:
        for stream in (False, True):
            await ask_and_leave(http, node, "/v1/messages", ASK | {"stream": stream})

    with_door(node, act)


def test_tokens_are_counted_without_an_answer() -> None:
    node = FakeNode()

    async def act(http: httpx.AsyncClient) -> None:
        wanted = {"model": "tiny", "messages": ASK["messages"], "system": "be brief"}
        response = await http.post("/v1/messages/count_tokens", json=wanted)
        assert response.json() == {"input_tokens": len("be brief" + "the capital")}

    with_door(node, act)
    assert node.requests == []


def test_waiting_and_new_routes_are_comments() -> None:
    encoder = MessageEncoder(GenerateRequest(model="tiny"), max_calls=None)
    assert encoder.encode(Waiting(position=2, text="no room")).startswith(b": waiting, 2")
    assert encoder.encode(Rerouted(route=(HOP,))).startswith(b": rerouted to aaaaaaaa")
    assert encoder.keep_alive() == b'event: ping\ndata: {"type":"ping"}\n\n'
