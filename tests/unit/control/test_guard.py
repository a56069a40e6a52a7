"""Who is let in at the door: over ASGI, as if from other computers."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fake_node import FakeNode
from starlette.types import Message
from visitors import ELSEWHERE, HERE, NODE, PAGE, RUN, STATUS, bearer, visit

from gridnode.control.door import create_door
from gridnode.control.door_policy import DoorPolicy
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope
from gridnode.errors import ErrorCode


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
    arriving: list[Message] = [
        {"type": "websocket.connect"},
        {"type": "websocket.disconnect", "code": 1000},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return arriving.pop(0)

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
