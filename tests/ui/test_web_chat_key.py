"""The chat page from another computer: it needs a key that is good for chatting, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import ANY_PORT, SharedBrowser
from chat_browsing import Talker, answers, ask
from playwright.async_api import expect

from gridnode.control.door_policy import DoorPolicy
from gridnode.control.door_server import serve_door
from gridnode.control.key_file import KeyFile
from gridnode.control.keys import Scope
from gridnode_web.pages import make_pages

pytestmark = pytest.mark.browser


def test_key_for_chatting_is_enough_until_it_is_revoked(browser: SharedBrowser, tmp_path: Path) -> None:
    async def scenario() -> None:
        keys, node = KeyFile(tmp_path), Talker()
        key, secret = keys.create("phone", scopes=(Scope.CHAT,))
        policy = DoorPolicy(keys=keys)
        async with (
            serve_door(node, ANY_PORT, pages=make_pages(node), policy=policy) as address,
            browser.window() as visit,
        ):
            page = visit.page
            # A request that was passed on counts as one from elsewhere.
            await page.set_extra_http_headers({"X-Forwarded-For": "192.0.2.9"})
            await page.goto(f"http://{address}/chat")
            await page.fill("input[type=password]", secret)
            await page.keyboard.press("Enter")
            await ask(page, "Hello from my phone")
            await expect(answers(page)).to_have_text("Yes.")

            keys.revoke(key.id)
            await page.fill("#question", "And now?")
            await page.keyboard.press("Enter")
            await expect(page.locator(".problem .advice").last).to_contain_text("Reload this page")
            await expect(page.locator("#notice")).to_contain_text("asks for a key")

    browser.run(scenario())
