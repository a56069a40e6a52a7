"""How much the door takes from one visitor, and from all."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest
from doors import ANY_PORT
from fake_node import FakeNode
from visitors import ELSEWHERE, EVENTS, HERE, NODE, RUN, STATUS, bearer, visit, visitor
from waiting import until

from gridnode.config import NodeConfig
from gridnode.control.door import create_door
from gridnode.control.door_policy import DoorPolicy, policy_of
from gridnode.control.door_server import serve_door
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope
from gridnode.errors import ErrorCode


def test_visitors_of_a_public_monitor_may_not_ask_without_end(
    keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridnode.control.doorkeeper.MAX_VISITOR_REQUESTS_PER_MINUTE", 2)
    _, secret = keys.create("laptop", scopes=(Scope.MONITOR,))
    policy = DoorPolicy(keys=keys, public_scopes=frozenset({Scope.MONITOR}))

    async def act(http: httpx.AsyncClient) -> None:
        answers = [await http.get(path) for path in ("/api/v1/state", STATUS, STATUS)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[-1].json()["error"]["details"]["limit"] == 2
        assert 0 < int(answers[-1].headers["retry-after"]) <= 30
        assert (await http.get(STATUS, headers=bearer(secret))).status_code == 200
        # Nobody gets further by a header that any program can send.
        assert (await http.get(STATUS, headers={"X-Forwarded-For": "198.51.100.7"})).status_code == 429

    visit(policy, act)
    visit(policy, act, peer="192.0.2.10")


def test_visitors_are_those_whom_a_trusted_proxy_names(
    keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridnode.control.doorkeeper.MAX_VISITOR_REQUESTS_PER_MINUTE", 1)
    public = frozenset({Scope.MONITOR})
    policy = policy_of(NodeConfig(api_proxies=("127.0.0.1", "10.0.0.0/8"), state_dir=keys.path.parent))

    async def act(http: httpx.AsyncClient) -> None:
        async def status_for(*names: str) -> int:
            return (await http.get(STATUS, headers={"X-Forwarded-For": ", ".join(names)})).status_code

        assert await status_for("198.51.100.7") == 200
        # What stands before the last stranger is his own invention.
        assert await status_for("203.0.113.1", "198.51.100.7") == 429
        assert await status_for("198.51.100.7", "10.1.2.3") == 429
        assert await status_for("198.51.100.8", "10.1.2.3") == 200
        # A visitor is no neighbour of the node, whatever he calls himself.
        assert (await http.post(RUN, json={}, headers={"X-Forwarded-For": "127.0.0.1"})).status_code == 401

    for proxy in (HERE, "::ffff:127.0.0.1"):
        visit(replace(policy, public_scopes=public), act, peer=proxy, url="http://127.0.0.1:7337")


def test_too_many_streams_of_a_public_monitor_are_refused_until_one_ends(
    keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy on this computer, over real HTTP."""
    monkeypatch.setattr("gridnode.control.doorkeeper.MAX_LISTENERS_PER_ADDRESS", 1)
    monkeypatch.setattr("gridnode.control.doorkeeper.MAX_LISTENERS", 2)
    policy = DoorPolicy(keys=keys, proxies=(HERE,), public_scopes=frozenset({Scope.MONITOR}))
    _, secret = keys.create("laptop", scopes=(Scope.MONITOR,))

    async def run() -> None:
        async with AsyncExitStack() as stack:
            address = await stack.enter_async_context(serve_door(FakeNode(), ANY_PORT, policy=policy))
            http = await stack.enter_async_context(
                httpx.AsyncClient(base_url=f"http://{address}", trust_env=False)
            )

            async def listen(visitor: str, **headers: str) -> httpx.Response:
                request = http.build_request("GET", EVENTS, headers={"X-Forwarded-For": visitor, **headers})
                return await http.send(request, stream=True)

            first, second = await listen("198.51.100.1"), await listen("198.51.100.2")
            assert (first.status_code, second.status_code) == (200, 200)
            again = await listen("198.51.100.1")
            assert again.status_code == 429
            third = await listen("198.51.100.3")
            assert third.status_code == 503
            assert int(again.headers["retry-after"]) > 0
            assert int(third.headers["retry-after"]) > 0
            assert (await listen("198.51.100.3", **bearer(secret))).status_code == 200
            await first.aclose()

            async def has_room() -> bool:
                return (await listen("198.51.100.3")).status_code == 200

            async with asyncio.timeout(20):
                while not await has_room():
                    await asyncio.sleep(0.01)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "place"),
    [("/v1/models", ("error", "code")), ("/api/tags", ("error",)), (STATUS, ("error", "message"))],
)
def test_a_full_door_says_so_in_the_words_of_the_path_and_this_computer_sees_it(
    keys: KeyFile, monkeypatch: pytest.MonkeyPatch, path: str, place: tuple[str, ...]
) -> None:
    monkeypatch.setattr("gridnode.control.guard.MAX_REQUESTS", 1)
    _, secret = keys.create("laptop", scopes=(Scope.CHAT, Scope.MONITOR))
    node = FakeNode(hang_after=1)
    door = create_door(node, policy=DoorPolicy(keys=keys))

    def client(peer: str, url: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(door, client=(peer, 40000))
        return httpx.AsyncClient(transport=transport, base_url=url, headers=bearer(secret))

    async def run() -> None:
        async with client(ELSEWHERE, NODE) as far, client(HERE, "http://localhost:7337") as near:
            running = asyncio.create_task(far.post(RUN, json={"prompt": "x"}))
            await until(lambda: node.num_running == 1)
            refused = await far.get(path)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            found = refused.json()
            for name in place:
                found = found[name]
            assert found == "no_capacity" or "answers 1 requests at once" in found
            assert (await near.get(STATUS)).status_code == 200
            running.cancel()
            await asyncio.wait([running])
            assert (await far.get(path)).status_code == 200

    asyncio.run(run())


def test_too_many_requests_are_429_with_numbers(keys: KeyFile) -> None:
    _, secret = keys.create("laptop", scopes=(Scope.MONITOR,), requests_per_minute=2)
    _, other = keys.create("phone", scopes=(Scope.MONITOR,))

    async def act(http: httpx.AsyncClient) -> None:
        answers = [await http.get(STATUS, headers=bearer(secret)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        error = answers[-1].json()["error"]
        assert error["code"] == ErrorCode.RATE_LIMITED
        assert "2 requests per minute" in error["message"]
        assert error["details"]["limit"] == 2
        assert 0 < error["details"]["retry_after_s"] <= 30
        assert 0 < int(answers[-1].headers["retry-after"]) <= 30
        assert (await http.get(STATUS, headers=bearer(other))).status_code == 200

    visit(DoorPolicy(keys=keys), act)


def test_answers_at_once_are_counted_until_they_end(keys: KeyFile) -> None:
    _, secret = keys.create("laptop", scopes=(Scope.CHAT,), max_answers=2)
    node = FakeNode(hang_after=1)

    async def run() -> None:
        async with visitor(DoorPolicy(keys=keys), node=node) as http:
            ask = {"url": RUN, "json": {"prompt": "x"}, "headers": bearer(secret)}
            running = [asyncio.create_task(http.post(**ask)) for _ in range(2)]
            await until(lambda: node.num_running == 2)
            refused = await http.post(**ask)
            assert refused.status_code == 429
            assert "2 answers at once" in refused.json()["error"]["message"]
            assert int(refused.headers["retry-after"]) > 0
            # Requests that are no answers pass.
            assert (await http.get("/api/v1/version", headers=bearer(secret))).status_code == 200
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            node.hang_after = None
            assert (await http.post(**ask)).status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "question"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "n": 2}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "n": 2, "stream": True}),
        ("/v1/completions", {"prompt": ["x", "y"]}),
    ],
)
def test_every_answer_to_a_question_is_counted(keys: KeyFile, path: str, question: dict[str, Any]) -> None:
    _, secret = keys.create("laptop", scopes=(Scope.CHAT,), max_answers=3)
    node = FakeNode(hang_after=1)

    async def run() -> None:
        async with visitor(DoorPolicy(keys=keys), node=node) as http:
            ask = {"url": path, "json": question, "headers": bearer(secret)}
            running = asyncio.create_task(http.post(**ask))
            await until(lambda: node.num_running == 2)
            refused = await http.post(**ask)  # with one more, not with two
            assert refused.status_code == 429
            assert "3 answers at once" in refused.json()["error"]["message"]
            one = asyncio.create_task(http.post(RUN, json={"prompt": "x"}, headers=bearer(secret)))
            await until(lambda: node.num_running == 3)
            for task in (running, one):
                task.cancel()
            await asyncio.wait([running, one])
            await until(lambda: node.num_running == 0)

    asyncio.run(run())


def test_more_answers_than_a_key_may_ever_have_at_once_are_no_matter_of_time(keys: KeyFile) -> None:
    _, secret = keys.create("laptop", scopes=(Scope.CHAT,), max_answers=2)

    async def act(http: httpx.AsyncClient) -> None:
        asked = {"prompt": "x", "n": 3}
        refused = await http.post("/v1/completions", json=asked, headers=bearer(secret))
        assert refused.status_code == 400
        assert "3 answers are asked for" in refused.json()["error"]["message"]
        assert "retry-after" not in refused.headers
        fits = await http.post("/v1/completions", json=asked | {"n": 2}, headers=bearer(secret))
        assert fits.status_code == 200

    visit(DoorPolicy(keys=keys), act)
