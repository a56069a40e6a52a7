"""Chats that the browser keeps: over reloads, between windows, as files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from browsing import SharedBrowser
from chat_browsing import READY, Talker, answers, ask, assert_accessible, begin
from playwright.async_api import expect
from waiting import until

pytestmark = pytest.mark.browser


def test_reload_and_another_window_find_the_chat(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        node = Talker(answers=[["first"], ["second"]])
        async with browser.visiting(node, "/chat") as visit:
            page = visit.page
            await ask(page, "Remember me")
            await page.get_by_label("Regenerate: answer again").click()
            await expect(answers(page)).to_have_text("second")
            await page.wait_for_selector(READY)
            await page.reload()
            await expect(answers(page)).to_have_text("second")
            await expect(page.locator(".answer .which")).to_have_text("2/2")

            other = await page.context.new_page()
            await other.goto(visit.home + "/chat")
            await other.get_by_role("button", name="Remember me", exact=True).click()
            await expect(answers(other)).to_have_text("second")
            await ask(other, "Here too")
            await expect(page.locator(".question .body")).to_have_text(["Remember me", "Here too"])

    browser.run(scenario())


def test_page_closed_in_the_middle_keeps_what_was_written(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        node = Talker(answers=[["half a", asyncio.Event()]])
        async with browser.visiting(node, "/chat") as visit:
            await begin(visit.page, "Write")
            await expect(answers(visit.page)).to_have_text("half a")
            await visit.page.reload()
            await until(lambda: node.num_running == 0)
            await expect(answers(visit.page)).to_have_text("half a")
            await expect(visit.page.locator(".notes")).to_have_text("Stopped here")

    browser.run(scenario())


def test_chats_are_kept_exported_imported_and_deleted(browser: SharedBrowser, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with browser.visiting(Talker(), "/chat") as visit:
            page = visit.page
            await ask(page, "Keep this")
            await page.get_by_role("button", name="New chat").click()
            await expect(page.locator("#welcome")).to_be_visible()
            await ask(page, "Another")
            await expect(page.locator("#chat-list .open")).to_have_text(["Another", "Keep this"])

            async with page.expect_download() as waiting:
                await page.get_by_label("Export “Another”").click()
            download = await waiting.value
            assert download.suggested_filename == "gridnode-chat-Another.json"
            saved = tmp_path / "chat.json"
            await download.save_as(saved)
            assert json.loads(saved.read_text())["turns"][0]["content"] == "Another"

            await page.get_by_label("Delete “Another”").click()
            await page.get_by_role("button", name="Keep", exact=True).click()
            await expect(page.locator("#chat-list li")).to_have_count(2)
            await page.get_by_role("button", name="Delete all").click()
            await assert_accessible(page)
            await page.get_by_role("button", name="Delete", exact=True).click()
            await expect(page.locator("#chat-list li")).to_have_count(0)

            await page.set_input_files("#import-file", saved)
            await expect(page.locator(".question .body")).to_have_text("Another")
            (tmp_path / "other.json").write_text("[1, 2]")
            await page.set_input_files("#import-file", tmp_path / "other.json")
            await expect(page.locator("#notice")).to_contain_text("this is not a chat that gridnode saved")

    browser.run(scenario())


def test_answer_goes_on_while_another_chat_is_open(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        rest = asyncio.Event()
        node = Talker(answers=[["slow ", rest, "but sure"], ["quick"]])
        async with browser.visiting(node, "/chat") as visit:
            page = visit.page
            await begin(page, "Slowly")
            await expect(answers(page)).to_have_text("slow")
            await page.get_by_role("button", name="New chat").click()
            await ask(page, "Quickly")
            await expect(answers(page)).to_have_text("quick")
            rest.set()
            await page.get_by_role("button", name="Slowly", exact=True).click()
            await expect(answers(page)).to_have_text("slow but sure")

    browser.run(scenario())
