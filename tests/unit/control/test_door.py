"""The door of a node, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from doors import ANY_PORT, door, with_door
from fake_node import STATUS, FakeNode
from waiting import until

from gridnode import __version__
from gridnode.control.answer_schema import Embedded, EmbedRequest
from gridnode.control.door_request import MAX_BODY_BYTES
from gridnode.control.door_server import serve_door
from gridnode.control.score_schema import Scored, ScoreRequest
from gridnode.control.status_schema import NodeStatus
from gridnode.core.route_wishes import RouteWishes
from gridnode.errors import CacheFull, ErrorCode, ModelUnknown, NoRoute, PeerLost


def error_of(response: httpx.Response) -> dict[str, object]:
    error: dict[str, object] = response.json()["error"]
    return error


def test_status_is_what_the_node_says() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        response = await http.get("/api/v1/status")
        assert response.status_code == 200
        assert msgspec.json.decode(response.content, type=NodeStatus) == STATUS
        assert "access-control-allow-origin" not in response.headers

    with_door(FakeNode(), act)


def test_version_and_health_answer_whatever_the_engine_does() -> None:
    node = FakeNode()
    node.with_engine("failed", restarts=5)

    async def act(http: httpx.AsyncClient) -> None:
        assert (await http.get("/api/v1/version")).json() == {"version": __version__}
        assert (await http.get("/health")).status_code == 200

    with_door(node, act)


def test_ready_says_what_is_missing_and_when_to_come_back() -> None:
    node = FakeNode()

    async def act(http: httpx.AsyncClient) -> None:
        assert (await http.get("/ready")).json()["ready"] is True
        node.with_engine("loading", loaded_blocks=3, wanted_blocks=10)
        response = await http.get("/ready")
        assert response.status_code == 503
        assert response.json() == {"ready": False, "reason": "loading blocks, 3 of 10 done"}
        assert int(response.headers["retry-after"]) > 0

    with_door(node, act)


def test_run_streams_the_events_in_order() -> None:
    node = FakeNode()

    async def act(http: httpx.AsyncClient) -> None:
        response = await http.post("/api/v1/run", json={"prompt": "The capital", "max_tokens": 3})
        assert response.headers["content-type"].startswith("text/event-stream")
        names = [
            line.removeprefix("event: ") for line in response.text.splitlines() if line.startswith("event")
        ]
        assert names == ["started", "delta", "delta", "delta", "finished"]
        assert '"text":"Par"' in response.text

    with_door(node, act)
    assert node.requests[0].max_tokens == 3


def test_a_reader_who_leaves_cancels_the_answer_at_once() -> None:
    node = FakeNode(hang_after=1)

    async def act(http: httpx.AsyncClient) -> None:
        async with http.stream("POST", "/api/v1/run", json={"prompt": "x"}) as response:
            async for line in response.aiter_lines():
                if line == "event: delta":
                    break
            assert node.num_running == 1
        await until(lambda: node.num_running == 0)

    with_door(node, act)


def test_a_reader_who_leaves_during_prefill_cancels_it() -> None:
    node = FakeNode(hang_after=0)

    async def act(http: httpx.AsyncClient) -> None:
        async with http.stream("POST", "/api/v1/run", json={"prompt": "x"}):
            await until(lambda: node.num_running == 1)
        await until(lambda: node.num_running == 0)

    with_door(node, act)


def test_a_node_that_stops_tells_its_readers() -> None:
    node = FakeNode(hang_after=1)

    async def run() -> str:
        async with httpx.AsyncClient(trust_env=False) as http:
            async with serve_door(node, ANY_PORT) as address:
                reading = asyncio.create_task(
                    http.post(f"http://{address}/api/v1/run", json={"prompt": "x"}), name="reader"
                )
                await until(lambda: node.num_running == 1)
            return (await reading).text

    text = asyncio.run(run())
    assert "event: failed" in text
    assert "the node is stopping" in text
    assert node.num_running == 0


def test_wishes_about_the_route_reach_the_node_and_misspelt_ones_are_refused() -> None:
    node = FakeNode()

    async def act(http: httpx.AsyncClient) -> None:
        wishes = {"block": ["Ada"], "private": True}
        answer = await http.post("/api/v1/run", json={"prompt": "x", "routing": wishes})
        assert answer.status_code == 200
        assert node.requests[-1].routing == RouteWishes(block=("Ada",), private=True)
        misspelt = await http.post("/api/v1/run", json={"prompt": "x", "routing": {"privat": True}})
        assert misspelt.status_code == 400
        assert "'routing.privat'" in misspelt.text
        senseless = await http.post("/api/v1/run", json={"prompt": "x", "routing": {"route": ["A", "A"]}})
        assert senseless.status_code == 400
        assert "name it once" in senseless.text

    with_door(node, act)


@pytest.mark.parametrize("path", ["run", "embed", "score"])
def test_no_request_passes_over_a_misspelt_wish(path: str) -> None:
    body = {"texts": ["x"]} if path != "run" else {"prompt": "x"}

    async def act(http: httpx.AsyncClient) -> None:
        url = f"/api/v1/{path}"
        assert (await http.post(url, json=body | {"routing": {"private": True}})).status_code == 200
        for wrong in ({"routing": {"privat": True}}, {"rooting": {"private": True}}):
            refused = await http.post(url, json=body | wrong)
            assert refused.status_code == 400, refused.text
            assert "unknown field" in refused.text

    with_door(FakeNode(), act)


class NeverDone(FakeNode):
    """Computes vectors and scores until nobody wants them any more."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    async def embed(self, request: EmbedRequest) -> Embedded:
        return await self._compute()

    async def score(self, request: ScoreRequest) -> Scored:
        return await self._compute()

    async def _compute(self) -> Any:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended.set()


@pytest.mark.parametrize("path", ["embed", "score"])
def test_nothing_is_computed_for_a_reader_who_left(path: str) -> None:
    """Such a request may take minutes, and holds leases on every hop."""
    node = NeverDone()

    async def act(http: httpx.AsyncClient) -> None:
        asking = asyncio.create_task(http.post(f"/api/v1/{path}", json={"texts": ["x"]}))
        async with asyncio.timeout(20):
            await node.begun.wait()
            asking.cancel()
            await asyncio.wait([asking])
            await node.ended.wait()

    with_door(node, act)


def test_errors_before_the_answer_have_their_status() -> None:
    errors = {
        CacheFull(900, 100): (503, "900"),
        ModelUnknown("nobody serves llama; served now: tiny"): (404, "tiny"),
        NoRoute("tiny", 30, ((10, 20),)): (503, "--blocks 10:20"),
        PeerLost("bbbbbbbb is gone"): (502, "bbbbbbbb"),
    }

    async def run() -> None:
        for error, (status, part) in errors.items():
            async with door(FakeNode(error=error)) as http:
                response = await http.post("/api/v1/run", json={"prompt": "x"})
                assert response.status_code == status
                assert error_of(response)["code"] == error.code
                assert part in str(error_of(response)["message"])
                assert ("retry-after" in response.headers) == (status == 503)

    asyncio.run(run())


def test_an_error_in_the_middle_is_the_last_event() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        response = await http.post("/api/v1/run", json={"prompt": "x"})
        assert response.status_code == 200
        assert response.text.rstrip().splitlines()[-2:] == [
            "event: failed",
            'data: {"code":"peer_lost","text":"bbbbbbbb is gone","event":"failed"}',
        ]

    with_door(FakeNode(error=PeerLost("bbbbbbbb is gone"), fail_after=2), act)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"{", "truncated"),
        (b"[1]", "object"),
        (b'{"max_tokens": 0, "prompt": "x"}', "$.max_tokens"),
        (b'{"prompt": 7}', "$.prompt"),
        (b'{"max_token": 5}', "max_token"),
        (b'{"sampling": {"temprature": 1}}', "sampling.temprature"),
        (b'{"prompt": "x", "sampling": {"temperature": -1}}', "temperature must be"),
        (b'{"prompt": "\xff"}', "request cannot be used"),
        (b'{"messages": ' + b"[" * 100_000, "request cannot be used"),
    ],
)
def test_a_bad_request_names_the_field(body: bytes, part: str) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        response = await http.post("/api/v1/run", content=body)
        assert response.status_code == 400
        assert error_of(response)["code"] == ErrorCode.BAD_INPUT
        assert part in str(error_of(response)["message"])

    with_door(FakeNode(), act)


def test_a_body_beyond_the_limit_is_refused() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 2):
            yield b" " * 65536

    async def act(http: httpx.AsyncClient) -> None:
        announced = await http.post("/api/v1/run", content=b" " * (MAX_BODY_BYTES + 1))
        assert announced.status_code == 413
        assert "32.0 MiB" in str(error_of(announced)["message"])
        assert (await http.post("/api/v1/run", content=endless())).status_code == 413

    with_door(FakeNode(), act)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:7337", "192.0.2.7", "", "[::2]:80"])
def test_a_name_that_is_not_this_machine_is_refused(host: str) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        response = await http.get("/api/v1/status", headers={"Host": host})
        assert response.status_code == 403
        assert "refused" in str(error_of(response)["message"])

    with_door(FakeNode(), act)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9999", "127.0.0.1", "[::1]:7337"])
def test_names_of_this_machine_are_served(host: str) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        assert (await http.get("/health", headers={"Host": host})).status_code == 200

    with_door(FakeNode(), act)


def test_pages_of_other_origins_are_refused() -> None:
    node = FakeNode()

    async def act(http: httpx.AsyncClient) -> None:
        for origin in ("https://evil.example", "http://localhost:3000", "null"):
            response = await http.post("/api/v1/run", json={"prompt": "x"}, headers={"Origin": origin})
            assert response.status_code == 403
        own = str(http.base_url).rstrip("/")
        assert (await http.get("/health", headers={"Origin": own})).status_code == 200

    with_door(node, act)
    assert node.requests == []


def test_unknown_paths_and_methods_answer_in_json() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        missing = await http.get("/api/v1/nothing")
        assert (missing.status_code, error_of(missing)["code"]) == (404, "bad_input")
        wrong = await http.get("/api/v1/run")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")

    with_door(FakeNode(), act)
