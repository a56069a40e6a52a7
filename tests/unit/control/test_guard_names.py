"""Under which names, and from which pages, the door is served."""

from __future__ import annotations

import httpx
import pytest
from visitors import HERE, RUN, STATUS, bearer, visit

from gridnode.control.door_policy import DoorPolicy
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope


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


def test_pages_of_allowed_origins_read_every_figure_of_an_answer(keys: KeyFile) -> None:
    _, secret = keys.create("page", scopes=(Scope.CHAT,))
    origin = "https://chat.example.org"

    async def act(http: httpx.AsyncClient) -> None:
        headers = {"Origin": origin, **bearer(secret)}
        answer = await http.post("/v1/completions", json={"prompt": "x"}, headers=headers)
        exposed = {
            name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")
        }
        figures = {
            name for name in answer.headers if name.startswith("x-gridnode-") or name == "server-timing"
        }
        assert "x-gridnode-drafts" in figures
        assert figures <= exposed

    visit(DoorPolicy(keys=keys, origins=frozenset({origin})), act)


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
