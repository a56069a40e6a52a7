"""A page that talks to a node through the WebSocket of its door, in a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from browsing import ANY_PORT, SharedBrowser, Visit
from fake_node import FakeNode
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from gridnode.control.door_policy import THIS_COMPUTER, DoorPolicy
from gridnode.control.door_server import serve_door
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope
from gridnode.control.login_page import COOKIE

pytestmark = pytest.mark.browser

# Opens a session, takes as many turns as it is told, and returns everything that the page gets to know.
TALK = """([url, turns]) => new Promise((done) => {
    const socket = new WebSocket(url), heard = [], opened = [];
    const ask = () => socket.send(JSON.stringify({type: "generate", inputs: "hello", stop_sequence: "###"}));
    socket.onopen = () => {
        opened.push(true);
        socket.send(JSON.stringify({type: "open_inference_session", max_length: 64}));
    };
    socket.onmessage = (event) => {
        heard.push(JSON.parse(event.data));
        const {stop} = heard.at(-1);
        if (stop === true && --turns === 0) socket.close(1000);
        else if (stop === undefined || stop) ask();
    };
    socket.onclose = ({code, reason}) => done({heard, code, reason});
})"""


@asynccontextmanager
async def visiting(
    browser: SharedBrowser, node: FakeNode, *, origin: str = "", policy: DoorPolicy = THIS_COMPUTER
) -> AsyncIterator[tuple[Visit, str]]:
    """Open an empty page of `origin`, by default of the node; yield it with the URL of the socket."""
    async with (
        serve_door(node, ANY_PORT, pages=[EMPTY], policy=policy) as address,
        browser.window() as visit,
    ):
        visit.home = f"http://{address}"
        await visit.page.goto(f"{origin or visit.home}{EMPTY.path}")
        yield visit, f"ws://{address}/api/v2/generate"


@asynccontextmanager
async def foreign_site() -> AsyncIterator[str]:
    """Serve an empty page at another port, which is another origin; yield that."""
    async with serve_door(FakeNode(), ANY_PORT, pages=[EMPTY]) as address:
        yield f"http://{address}"


async def empty(request: Request) -> Response:
    return HTMLResponse("<!doctype html><title>empty</title>")


# Where nobody needs a key, so that the page is not the one that asks for one.
EMPTY = Route("/static/empty", empty)


async def talk(visit: Visit, url: str, *, turns: int = 1) -> dict[str, Any]:
    async with asyncio.timeout(30):
        found: dict[str, Any] = await visit.page.evaluate(TALK, [url, turns])
    return found


def test_an_answer_streams_into_a_page_of_the_node(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        node = FakeNode(ending={"stop_text": "###"})
        async with browser.visiting(node, "/chat") as visit:
            # The page's own Content-Security-Policy holds.
            found = await talk(visit, f"{visit.home.replace('http', 'ws')}/api/v2/generate", turns=2)
        assert found["code"] == 1000
        said = [each["outputs"] for each in found["heard"] if "outputs" in each]
        assert said == ["Par", "is", ".", "###"] * 2
        assert node.num_running == 0

    browser.run(scenario())


def test_a_page_of_a_foreign_origin_is_refused_and_told_why(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        node = FakeNode()
        async with foreign_site() as origin, visiting(browser, node, origin=origin) as (visit, url):
            found = await talk(visit, url)
        assert found["code"] == 1008
        assert found["reason"].startswith(f"origin '{origin}' is refused: pages of other origins")
        (last,) = found["heard"]
        assert last["ok"] is False
        assert "--api-origin" in last["traceback"]
        assert node.requests == []

    browser.run(scenario())


def test_a_page_of_an_allowed_origin_gets_its_answer(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        node = FakeNode(ending={"stop_text": "###"})
        async with foreign_site() as origin:
            policy = DoorPolicy(origins=frozenset({origin}))
            async with visiting(browser, node, origin=origin, policy=policy) as (visit, url):
                found = await talk(visit, url)
        assert found["code"] == 1000
        assert "".join(each.get("outputs", "") for each in found["heard"]) == "Paris.###"

    browser.run(scenario())


@pytest.mark.parametrize(
    ("scope", "told"),
    [(None, "this door wants a key"), (Scope.MONITOR, "is for monitor, and this needs chat")],
)
def test_a_page_without_the_right_key_is_refused_and_told_why(
    browser: SharedBrowser, tmp_path: Path, scope: Scope | None, told: str
) -> None:
    async def scenario() -> None:
        keys, node = KeyFile(tmp_path), FakeNode()
        policy = DoorPolicy(keys=keys, home_needs_key=True)
        async with visiting(browser, node, policy=policy) as (visit, url):
            if scope is not None:
                await show_key(visit, keys.create("phone", scopes=(scope,))[1])
            found = await talk(visit, url)
        assert found["code"] == 1008
        assert told in found["reason"]
        assert told in found["heard"][0]["traceback"]
        assert node.requests == []

    browser.run(scenario())


def test_turns_of_a_page_count_as_requests_of_its_key(browser: SharedBrowser, tmp_path: Path) -> None:
    async def scenario() -> None:
        keys, node = KeyFile(tmp_path), FakeNode(ending={"stop_text": "###"})
        _, secret = keys.create("phone", scopes=(Scope.CHAT,), requests_per_minute=3, max_answers=1)
        async with visiting(browser, node, policy=DoorPolicy(keys=keys, home_needs_key=True)) as (visit, url):
            await show_key(visit, secret)
            found = await talk(visit, url, turns=5)
            again = await talk(visit, url)
        # Opening the socket is the first request.
        assert len(node.requests) == 2
        for refused in (found, again):
            assert refused["code"] == 1013
            assert "may make 3 requests per minute" in refused["reason"]
            assert refused["heard"][-1]["ok"] is False

    browser.run(scenario())


async def show_key(visit: Visit, secret: str) -> None:
    """Have the cookie that the page for keys sets."""
    await visit.page.context.add_cookies(
        [{"name": COOKIE, "value": secret, "url": visit.home, "httpOnly": True, "sameSite": "Strict"}]
    )
