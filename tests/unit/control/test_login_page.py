"""A browser shows its key once and then has a cookie."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from fake_node import FakeNode

from gridnode.control.door import create_door
from gridnode.control.door_policy import DoorPolicy
from gridnode.control.doorkeeper import MAX_WRONG_KEYS_PER_MINUTE
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope
from gridnode.control.login_page import MAX_FORM_BYTES, local_path

NODE = "http://192.0.2.2:7337"


def browse(directory: Path, act: Callable[[httpx.AsyncClient, str], Awaitable[None]]) -> None:
    keys = KeyFile(directory)
    _, secret = keys.create("phone", scopes=(Scope.MONITOR,))
    door = create_door(FakeNode(), policy=DoorPolicy(keys=keys))

    async def run() -> None:
        transport = httpx.ASGITransport(door, client=("192.0.2.9", 40000))
        async with httpx.AsyncClient(transport=transport, base_url=NODE, headers={"Origin": NODE}) as http:
            await act(http, secret)

    asyncio.run(run())


def test_a_right_key_opens_the_page_that_was_asked_for(tmp_path: Path) -> None:
    async def act(http: httpx.AsyncClient, secret: str) -> None:
        answer = await http.post("/login", data={"key": f" {secret}\n", "next": "/api/v1/status?x=1"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/api/v1/status?x=1")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert "Secure" not in cookie  # a browser would not send it back over HTTP
        assert (await http.get(answer.headers["location"])).status_code == 200
        assert (await http.post("/logout")).headers["location"] == "/login"
        assert (await http.get("/api/v1/status")).status_code == 401

    browse(tmp_path, act)


def test_behind_tls_the_cookie_stays_there(tmp_path: Path) -> None:
    async def act(http: httpx.AsyncClient, secret: str) -> None:
        answer = await http.post("/login", data={"key": secret}, headers={"X-Forwarded-Proto": "https"})
        assert "Secure" in answer.headers["set-cookie"]
        assert answer.headers["location"] == "/"

    browse(tmp_path, act)


def test_a_wrong_key_is_said_so_and_never_repeated(tmp_path: Path) -> None:
    async def act(http: httpx.AsyncClient, secret: str) -> None:
        answers = [
            await http.post("/login", data={"key": "gn-wrong", "next": "/?a=1&b=2"})
            for _ in range(MAX_WRONG_KEYS_PER_MINUTE + 1)
        ]
        assert [answer.status_code for answer in answers] == [401] * MAX_WRONG_KEYS_PER_MINUTE + [429]
        assert int(answers[-1].headers["retry-after"]) > 0
        first = answers[0]
        assert "unknown or was revoked" in first.text
        assert 'value="/?a=1&amp;b=2"' in first.text
        assert "gn-wrong" not in first.text
        assert "set-cookie" not in first.headers

    browse(tmp_path, act)


def test_other_pages_cannot_log_anybody_in(tmp_path: Path) -> None:
    async def act(http: httpx.AsyncClient, secret: str) -> None:
        answer = await http.post("/login", data={"key": secret}, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers

    browse(tmp_path, act)


def test_what_is_no_form_is_refused(tmp_path: Path) -> None:
    async def act(http: httpx.AsyncClient, secret: str) -> None:
        assert (await http.post("/login", content=b"\xff" * 100)).status_code == 401
        assert (await http.post("/login", content=b"x" * (MAX_FORM_BYTES + 1))).status_code == 400

    browse(tmp_path, act)


def test_the_page_runs_nothing_and_stands_in_no_frame(tmp_path: Path) -> None:
    async def act(http: httpx.AsyncClient, secret: str) -> None:
        page = await http.get("/login")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        style = re.search(r"<style>(.*?)</style>", page.text, flags=re.S)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        assert f"style-src 'sha256-{digest}'" in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "<script" not in page.text

    browse(tmp_path, act)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "/"),
        ("/node/abc?x=/y", "/node/abc?x=/y"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("https://evil.example", "/"),
        ("", "/"),
    ],
)
def test_the_way_back_never_leads_elsewhere(path: str, shown: str) -> None:
    assert local_path(path) == shown
