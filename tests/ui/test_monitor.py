"""The pages of the monitor in a real browser."""

from __future__ import annotations

import pytest
from browsing import SharedBrowser
from fake_node import FakeNode

pytestmark = pytest.mark.browser


def test_swarm_page_names_the_swarm(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        async with browser.visiting(FakeNode()) as visit:
            assert "home" in await visit.page.inner_text("h1")

    browser.run(scenario())


def test_page_reads_without_scripts(browser: SharedBrowser) -> None:
    async def scenario() -> None:
        async with browser.visiting(FakeNode(), scripts=False) as visit:
            assert "home" in await visit.page.inner_text("h1")
            assert not await visit.page.is_visible("#theme")

    browser.run(scenario())
