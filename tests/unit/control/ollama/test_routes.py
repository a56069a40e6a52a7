"""Ollama's dialect over real HTTP, in front of a node without a swarm."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from doors import ask_and_leave, with_door
from fake_node import STATUS, FakeNode

from gridnode.control.answer_schema import ToolCall
from gridnode.errors import CacheFull, GridError, ModelUnknown, PeerLost

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "the capital"}]}


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_chat_streams_lines_and_ends_with_the_figures() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        response = await http.post("/api/chat", json=CHAT)
        assert response.headers["content-type"] == "application/x-ndjson"
        assert response.headers["x-gridnode-route"] == "aaaaaaaa 0:30"
        *pieces, end = lines(response)
        assert [piece["message"]["content"] for piece in pieces] == ["Par", "is", "."]
        assert all(piece["model"] == "tiny" and not piece["done"] for piece in pieces)
        assert (end["done"], end["done_reason"]) == (True, "stop")
        assert end["message"] == {"role": "assistant", "content": ""}
        assert (end["prompt_eval_count"], end["eval_count"]) == (5, 3)
        assert (end["prompt_eval_duration"], end["eval_duration"]) == (50_000_000, 50_000_000)
        assert end["total_duration"] == 100_000_000

    with_door(FakeNode(), act)


def test_a_prompt_can_be_answered_as_a_whole() -> None:
    node = FakeNode(ending={"reason": "length"})

    async def act(http: httpx.AsyncClient) -> None:
        body = {"model": "tiny:latest", "prompt": "the capital", "stream": False}
        answer = (await http.post("/api/generate", json=body)).json()
        assert (answer["model"], answer["response"]) == ("tiny:latest", "Paris.")
        assert (answer["done"], answer["done_reason"]) == (True, "length")
        assert answer["created_at"].endswith("Z")

    with_door(node, act)
    assert node.requests[0].model == "tiny"


def test_calls_of_tools_come_before_the_end() -> None:
    call = ToolCall(id="call_1", name="weather", arguments='{"city": "Köln"}')
    node = FakeNode(words=(), ending={"reason": "tool_calls", "tool_calls": (call,)})
    called = {"id": "call_1", "function": {"name": "weather", "arguments": {"city": "Köln"}}}

    async def act(http: httpx.AsyncClient) -> None:
        said, end = lines(await http.post("/api/chat", json=CHAT))
        assert said["message"]["tool_calls"] == [called]
        assert end["done_reason"] == "stop"
        whole = (await http.post("/api/chat", json=CHAT | {"stream": False})).json()
        assert whole["message"] == {"role": "assistant", "content": "", "tool_calls": [called]}

    with_door(node, act)


def test_without_a_prompt_a_model_is_only_looked_for() -> None:
    node = FakeNode()

    async def act(http: httpx.AsyncClient) -> None:
        loaded = (await http.post("/api/generate", json={"model": "tiny"})).json()
        assert (loaded["done"], loaded["done_reason"]) == (True, "load")
        unloaded = await http.post("/api/chat", json={"model": "tiny", "messages": [], "keep_alive": 0})
        assert unloaded.json()["done_reason"] == "unload"
        assert (await http.post("/api/generate", json={"model": "huge"})).status_code == 404

    with_door(node, act)
    assert node.requests == []


def test_num_ctx_limits_prompt_and_answer_together() -> None:
    node = FakeNode()
    prompt_tokens = len("the capital")

    async def act(http: httpx.AsyncClient) -> None:
        fits = CHAT | {"options": {"num_ctx": prompt_tokens + 4}}
        assert (await http.post("/api/chat", json=fits)).status_code == 200
        refused = await http.post("/api/chat", json=CHAT | {"options": {"num_ctx": prompt_tokens}})
        assert refused.status_code == 400
        assert f"context of {prompt_tokens}" in refused.json()["error"]

    with_door(node, act)
    assert [request.max_tokens for request in node.requests] == [4]


@pytest.mark.parametrize(
    ("error", "status"), [(CacheFull(900, 100), 503), (ModelUnknown("nobody serves llama"), 404)]
)
def test_errors_are_told_as_ollama_does(error: GridError, status: int) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        for stream in (False, True):
            response = await http.post("/api/chat", json=CHAT | {"stream": stream})
            assert (response.status_code, response.json()) == (status, {"error": str(error)})
            assert ("retry-after" in response.headers) == (status == 503)

    with_door(FakeNode(error=error), act)


def test_an_error_in_the_middle_is_the_last_line() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        *_, last = lines(await http.post("/api/chat", json=CHAT))
        assert last == {"error": "bbbbbbbb is gone"}

    with_door(FakeNode(error=PeerLost("bbbbbbbb is gone"), fail_after=2), act)


def test_bad_requests_name_the_field() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        for body, part in ((b"{", "truncated"), (b"{}", "model"), (b'{"model": 3}', "$.model")):
            response = await http.post("/api/chat", content=body)
            assert response.status_code == 400
            assert part in response.json()["error"]

    with_door(FakeNode(), act)


def test_readers_who_leave_cancel_the_answer() -> None:
    node = FakeNode(hang_after=1)

    async def act(http: httpx.AsyncClient) -> None:
        for stream in (False, True):
            await ask_and_leave(http, node, "/api/chat", CHAT | {"stream": stream})

    with_door(node, act)
    assert len(node.requests) == 2


def test_models_have_what_editors_read() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        (listed,) = (await http.get("/api/tags")).json()["models"]
        assert (listed["name"], listed["model"], listed["digest"]) == ("tiny:latest", "tiny:latest", "f" * 64)
        assert listed["details"]["quantization_level"] == "int8"
        shown = (await http.post("/api/show", json={"model": listed["model"]})).json()
        architecture = shown["model_info"]["general.architecture"]
        assert shown["model_info"][f"{architecture}.context_length"] == 8192
        assert "tools" in shown["capabilities"]
        (running,) = (await http.get("/api/ps")).json()["models"]
        assert running["context_length"] == 8192
        version = (await http.get("/api/version")).json()["version"]
        assert tuple(map(int, version.split("."))) >= (0, 6, 4)
        assert (await http.get("/api/v1/version")).json()["version"] == STATUS.version

    with_door(FakeNode(), act)


def test_texts_become_vectors() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        two = (await http.post("/api/embed", json={"model": "tiny:latest", "input": ["a", "b"]})).json()
        assert two["embeddings"] == [[0.6, 0.8], [0.6, 0.8]]
        assert (two["model"], two["prompt_eval_count"]) == ("tiny:latest", 10)
        short = await http.post("/api/embed", json={"model": "tiny", "input": "a", "dimensions": 1})
        assert short.json()["embeddings"] == [[1.0]]
        older = await http.post("/api/embeddings", json={"model": "tiny", "prompt": "a"})
        assert older.json() == {"embedding": [0.6, 0.8]}

    with_door(FakeNode(), act)


def test_the_end_tells_the_route() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        *pieces, end = lines(await http.post("/api/chat", json=CHAT))
        assert end["gridnode"]["route"][0]["short"] == "aaaaaaaa"
        assert all("gridnode" not in piece and "done_reason" not in piece for piece in pieces)

    with_door(FakeNode(), act)


def test_a_model_that_is_served_is_pulled_already() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        assert (await http.post("/api/pull", json={"model": "tiny"})).json() == {"status": "success"}
        missing = await http.post("/api/pull", json={"name": "huge"})
        assert missing.status_code == 404
        assert "tiny:latest" in missing.json()["error"]
        assert "gridnode up" in (await http.post("/api/create", json={"model": "x"})).json()["error"]

    with_door(FakeNode(), act)
