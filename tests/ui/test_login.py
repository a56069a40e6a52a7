"""Entering a key in a real browser, as from another computer: by this computer's address on its network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from browsing import PHONE, SharedBrowser, Visit
from fake_node import FakeNode
from playwright.async_api import expect

from gridnode.control.door_policy import DoorPolicy
from gridnode.control.door_server import serve_door
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope
from gridnode.core.addresses import Address
from gridnode.net.interfaces import reachable_addresses
from gridnode_web.pages import make_pages

pytestmark = pytest.mark.browser


@asynccontextmanager
async def elsewhere(
    browser: SharedBrowser, keys: KeyFile, path: str, *, theme: Literal["light", "dark"] = "light"
) -> AsyncIterator[Visit]:
    """Open `path` of a node's door without scripts, by an address that is not loopback."""
    control = FakeNode()
    policy = DoorPolicy(keys=keys)
    async with (
        serve_door(control, Address("0.0.0.0", 0), pages=make_pages(control), policy=policy) as bound,
        browser.window(theme=theme, size=PHONE, scripts=False) as visit,
    ):
        found = reachable_addresses(bound)
        if not found:
            pytest.skip("this computer is on no network")
        visit.home = f"http://{found[0]}"
        await visit.page.goto(visit.home + path)
        yield visit


async def enter(visit: Visit, key: str) -> None:
    await visit.page.get_by_label("Key").fill(key)
    await visit.page.get_by_role("button", name="Open").click()


def test_a_key_opens_the_page_that_was_asked_for(browser: SharedBrowser, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    _, secret = keys.create("phone", scopes=(Scope.MONITOR,))

    async def scenario() -> None:
        async with elsewhere(browser, keys, "/contributors?sort=name") as visit:
            await visit.screenshot("login-light")
            await enter(visit, "gn-wrong")
            await expect(visit.page.get_by_role("alert")).to_contain_text("unknown or was revoked")
            await enter(visit, secret)
            await expect(visit.page).to_have_url(f"{visit.home}/contributors?sort=name")
            await expect(visit.page.get_by_role("heading", level=1)).to_have_text("Contributors")
            (cookie,) = await visit.page.context.cookies()
            assert cookie["httpOnly"]
            assert cookie["sameSite"] == "Strict"

    browser.run(scenario())


def test_a_key_for_something_else_says_what_is_missing(browser: SharedBrowser, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    _, secret = keys.create("phone", scopes=(Scope.CHAT,))

    async def scenario() -> None:
        async with elsewhere(browser, keys, "/", theme="dark") as visit:
            await enter(visit, secret)
            alert = visit.page.get_by_role("alert")
            await expect(alert).to_contain_text("is for chat, and this needs monitor")
            await visit.screenshot("login-dark")

    browser.run(scenario())
