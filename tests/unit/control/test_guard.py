"""Who is let in at the door: over ASGI, as if from other computers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from doors import ANY_PORT
from fake_node import FakeNode
from starlette.types import Message
from waiting import until

from gridnode.config import NodeConfig
from gridnode.control.door import create_door
from gridnode.control.door_policy import DoorPolicy, policy_of
from gridnode.control.door_server import serve_door
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope
from gridnode.errors import ErrorCode

HERE, ELSEWHERE, NODE = "127.0.0.1", "192.0.2.9", "http://192.0.2.2:7337"
STATUS, RUN, EVENTS = "/api/v1/status", "/api/v1/run", "/api/v1/events"
PAGE = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path)


def visitor(
    policy: DoorPolicy, *, node: FakeNode | None = None, peer: str = ELSEWHERE, url: str = NODE
) -> httpx.AsyncClient:
    """Return a client at the address `peer` of a door that it reaches as `url`."""
    door = create_door(node or FakeNode(), policy=policy)
    return httpx.AsyncClient(transport=httpx.ASGITransport(door, client=(peer, 40000)), base_url=url)


def visit(policy: DoorPolicy, act: Callable[[httpx.AsyncClient], Awaitable[None]], **how: str) -> None:
    async def run() -> None:
        async with visitor(policy, **how) as http:  # type: ignore[arg-type]
            await act(http)

    asyncio.run(run())


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_this_computer_needs_no_key(keys: KeyFile) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        assert (await http.get(STATUS)).status_code == 200
        # Programs that insist on a key send any.
        assert (await http.get(STATUS, headers=bearer("sk-none"))).status_code == 200

    for peer, url in (
        (HERE, "http://localhost:7337"),
        ("::1", "http://[::1]:7337"),
        ("::ffff:127.0.0.1", "http://127.0.0.1:7337"),  # a socket for both families
    ):
        visit(DoorPolicy(keys=keys), act, peer=peer, url=url)


def test_other_computers_need_a_key(keys: KeyFile) -> None:
    _, secret = keys.create("laptop", scopes=(Scope.CHAT, Scope.MONITOR))

    async def act(http: httpx.AsyncClient) -> None:
        refused = await http.get(STATUS)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert refused.json()["error"]["code"] == ErrorCode.KEY_REFUSED
        assert "gridnode keys create" in refused.json()["error"]["message"]
        wrong = await http.get(STATUS, headers=bearer(secret[:-1] + "~"))
        assert wrong.status_code == 401
        assert "unknown or was revoked" in wrong.json()["error"]["message"]
        for headers in (bearer(secret), {"X-Api-Key": secret}, {"Cookie": f"gridnode_key={secret}"}):
            assert (await http.get(STATUS, headers=headers)).status_code == 200
        # In an address it would end up in logs and histories.
        assert (await http.get(STATUS, params={"key": secret, "api_key": secret})).status_code == 401
        assert (await http.get("/health")).status_code == 200

    visit(DoorPolicy(keys=keys), act)


def test_a_name_of_loopback_alone_makes_nobody_local(keys: KeyFile) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        assert (await http.get(STATUS)).status_code == 401

    visit(DoorPolicy(keys=keys), act, peer=ELSEWHERE, url="http://127.0.0.1:7337")
    visit(DoorPolicy(keys=keys), act, peer=HERE, url=NODE)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Via"])
def test_a_proxy_on_this_computer_is_not_this_computer(keys: KeyFile, header: str) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        assert (await http.get(STATUS, headers={header: ELSEWHERE})).status_code == 401

    visit(DoorPolicy(keys=keys), act, peer=HERE, url="http://127.0.0.1:7337")


def test_this_computer_needs_one_too_if_told_so(keys: KeyFile) -> None:
    _, secret = keys.create("laptop", scopes=(Scope.MONITOR,))

    async def act(http: httpx.AsyncClient) -> None:
        assert (await http.get(STATUS)).status_code == 401
        assert (await http.get(STATUS, headers=bearer(secret))).status_code == 200
        assert (await http.get("/health")).status_code == 200

    visit(DoorPolicy(keys=keys, home_needs_key=True), act, peer=HERE, url="http://127.0.0.1:7337")


def test_without_keys_nobody_else_comes_in() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        assert (await http.get(STATUS, headers=bearer("gn-x"))).status_code == 401

    visit(DoorPolicy(), act)


def test_a_revoked_key_is_refused_at_once(keys: KeyFile) -> None:
    key, secret = keys.create("laptop", scopes=(Scope.MONITOR,))

    async def act(http: httpx.AsyncClient) -> None:
        assert (await http.get(STATUS, headers=bearer(secret))).status_code == 200
        KeyFile(keys.path.parent).revoke(key.id)
        assert (await http.get(STATUS, headers=bearer(secret))).status_code == 401

    visit(DoorPolicy(keys=keys), act)


@pytest.mark.parametrize(
    ("scope", "passes"),
    [(Scope.CHAT, (False, True, False)), (Scope.MONITOR, (True, False, False)), (Scope.ADMIN, (True,) * 3)],
)
def test_a_key_is_good_for_its_scopes_only(keys: KeyFile, scope: Scope, passes: tuple[bool, ...]) -> None:
    _, secret = keys.create("laptop", scopes=(scope,))
    requests = (("GET", STATUS), ("POST", RUN), ("DELETE", "/api/delete"))

    async def act(http: httpx.AsyncClient) -> None:
        for (method, path), is_allowed in zip(requests, passes, strict=True):
            response = await http.request(method, path, json={"prompt": "x"}, headers=bearer(secret))
            assert (response.status_code == 403) is not is_allowed, path
            if not is_allowed:
                assert f"is for {scope}" in response.text

    visit(DoorPolicy(keys=keys), act)


def test_what_is_public_needs_no_key(keys: KeyFile) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        assert (await http.get(STATUS)).status_code == 200
        assert (await http.post(RUN, json={"prompt": "x"})).status_code == 401

    visit(DoorPolicy(keys=keys, public_scopes=frozenset({Scope.MONITOR})), act)


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
    "host", ["evil.example", "192.0.2.3", "192.0.2.2.evil.example", "", "evil.example:7337", "[fd00::3]"]
)
def test_foreign_names_are_refused_even_with_a_key(keys: KeyFile, host: str) -> None:
    _, secret = keys.create("laptop", scopes=tuple(Scope))

    async def act(http: httpx.AsyncClient) -> None:
        response = await http.get(STATUS, headers=bearer(secret) | {"Host": host})
        assert response.status_code == 403
        assert "--api-host" in response.json()["error"]["message"]

    visit(DoorPolicy(keys=keys), act)


def test_the_computers_names_and_those_allowed_are_served(
    keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Ada-PC.home.example")
    policy = DoorPolicy(keys=keys, hosts=frozenset({"chat.example.org"}))

    async def act(http: httpx.AsyncClient) -> None:
        for host in ("192.0.2.2", "ada-pc:7337", "ADA-PC.local", "ada-pc.home.example", "Chat.Example.org"):
            assert (await http.get("/health", headers={"Host": host})).status_code == 200, host
            assert (await http.get(STATUS, headers={"Host": host})).status_code == 401, host

    visit(policy, act)


def test_a_rebound_name_on_loopback_is_refused() -> None:
    """The page http://evil.example:7337 whose name now points to 127.0.0.1: same origin for the browser."""

    async def act(http: httpx.AsyncClient) -> None:
        names = {"Host": "evil.example:7337", "Origin": "http://evil.example:7337"}
        for method in ("GET", "POST", "OPTIONS"):
            response = await http.request(method, STATUS, headers=names)
            assert response.status_code == 403
            assert "access-control-allow-origin" not in response.headers

    visit(DoorPolicy(), act, peer=HERE, url="http://127.0.0.1:7337")


def test_allowed_origins_get_a_preflight_and_readable_errors(keys: KeyFile) -> None:
    _, secret = keys.create("page", scopes=(Scope.CHAT,))
    origin = "https://chat.example.org"
    policy = DoorPolicy(keys=keys, origins=frozenset({origin}))
    asks = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
    }

    async def act(http: httpx.AsyncClient) -> None:
        preflight = await http.options(RUN, headers=asks)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == origin
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        assert "origin" in preflight.headers["vary"].lower()
        # Cookies stay with the node's own pages.
        assert "access-control-allow-credentials" not in preflight.headers
        for headers, status in (({}, 401), (bearer(secret), 200)):
            answer = await http.post(RUN, json={"prompt": "x"}, headers={"Origin": origin, **headers})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == origin
            assert "Retry-After" in answer.headers["access-control-expose-headers"]

    visit(policy, act)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://chat.example.org", "https://chat.example.org:8443", "null"]
)
def test_other_origins_get_nothing(keys: KeyFile, origin: str) -> None:
    _, secret = keys.create("page", scopes=tuple(Scope))
    policy = DoorPolicy(keys=keys, origins=frozenset({"https://chat.example.org"}))

    async def act(http: httpx.AsyncClient) -> None:
        asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for response in (
            await http.options(RUN, headers=asks),
            await http.post(RUN, json={"prompt": "x"}, headers={"Origin": origin, **bearer(secret)}),
        ):
            assert response.status_code == 403
            assert "access-control-allow-origin" not in response.headers

    visit(policy, act)


def test_browsers_get_a_page_to_enter_a_key_on(keys: KeyFile) -> None:
    _, secret = keys.create("phone", scopes=(Scope.CHAT,))

    async def act(http: httpx.AsyncClient) -> None:
        page = await http.get("/?sort=name", headers=PAGE)
        assert page.status_code == 401
        assert '<form method="post" action="/login">' in page.text
        assert 'value="/?sort=name"' in page.text
        assert 'role="alert"' not in page.text
        wrong_scope = await http.get("/", headers=PAGE | {"Cookie": f"gridnode_key={secret}"})
        assert wrong_scope.status_code == 403
        assert "is for chat, and this needs monitor" in wrong_scope.text

    visit(DoorPolicy(keys=keys), act)


@pytest.mark.parametrize(
    ("peer", "host", "origin", "passes"),
    [
        (HERE, "localhost:7337", None, True),
        (HERE, "localhost:7337", "http://localhost:7337", True),
        (HERE, "localhost:7337", "https://evil.example", False),
        (HERE, "evil.example", None, False),
        (ELSEWHERE, "192.0.2.2:7337", None, False),
    ],
)
def test_websockets_pass_the_same_door(
    keys: KeyFile, peer: str, host: str, origin: str | None, passes: bool
) -> None:
    headers = [(b"host", host.encode())] + ([(b"origin", origin.encode())] if origin else [])
    scope = {
        "type": "websocket",
        "path": "/api/v2/generate",
        "query_string": b"",
        "headers": headers,
        "client": (peer, 40000),
        "server": ("192.0.2.2", 7337),
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(create_door(FakeNode(), policy=DoorPolicy(keys=keys))(scope, receive, send))
    assert (sent[-1]["type"] == "websocket.close" and sent[-1]["code"] == 1008) is not passes
    if origin and not passes:
        # The script of a page gets to know why.
        assert [message["type"].removeprefix("websocket.") for message in sent] == ["accept", "send", "close"]
        assert sent[-1]["reason"].startswith("origin 'https://evil.example' is refused")


def test_the_description_of_the_door_says_how_to_show_a_key(keys: KeyFile) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        described = (await http.get("/openapi.json")).json()
        schemes = described["components"]["securitySchemes"]
        assert schemes["bearer"] == schemes["bearer"] | {"type": "http", "scheme": "bearer"}
        assert {scheme for choice in described["security"] for scheme in choice} == set(schemes)

    visit(DoorPolicy(keys=keys), act)
