"""A real headless browser on pages that a real door serves, in the event loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from playwright.async_api import Browser, Page, Playwright, async_playwright

from gridnode.control.door_server import serve_door
from gridnode.control.interface import NodeControl
from gridnode.core.addresses import Address
from gridnode_web.pages import make_pages

ANY_PORT = Address("127.0.0.1", 0)
SCREENSHOTS = Path(__file__).parent.parent / "build" / "screenshots"
PHONE, DESK = (390, 844), (1280, 900)

T = TypeVar("T")


@dataclass(eq=False)
class SharedBrowser:
    """One Chromium for the tests of a module, and the event loop that both live in."""

    runner: asyncio.Runner
    browser: Browser
    playwright: Playwright

    def run(self, scenario: Coroutine[Any, Any, T]) -> T:
        """Run a test's scenario to its end."""
        return self.runner.run(scenario)

    def close(self) -> None:
        """End the browser."""
        self.runner.run(self.browser.close())
        self.runner.run(self.playwright.stop())

    @contextlib.asynccontextmanager
    async def visiting(
        self,
        control: NodeControl,
        path: str = "/",
        *,
        theme: Literal["light", "dark"] = "light",
        size: tuple[int, int] = DESK,
        scripts: bool = True,
        complaints: bool = False,
    ) -> AsyncIterator[Visit]:
        """Open `path` of a node's door in a fresh profile.

        Fails at the end if the page broke its own Content-Security-Policy, raised an error or wrote one
        to the console, unless `complaints` are expected.
        """
        async with (
            serve_door(control, ANY_PORT, pages=make_pages(control)) as address,
            self.window(theme=theme, size=size, scripts=scripts) as visit,
        ):
            visit.home = f"http://{address}"
            await visit.page.goto(visit.home + path)
            yield visit
        if not complaints:
            assert visit.complaints == []

    @contextlib.asynccontextmanager
    async def window(
        self,
        *,
        theme: Literal["light", "dark"] = "light",
        size: tuple[int, int] = DESK,
        scripts: bool = True,
    ) -> AsyncIterator[Visit]:
        """Open an empty window in a fresh profile."""
        width, height = size
        context = await self.browser.new_context(
            color_scheme=theme,
            viewport={"width": width, "height": height},
            java_script_enabled=scripts,
            reduced_motion="reduce",
        )
        try:
            visit = Visit(page=await context.new_page())
            visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
            visit.page.on(
                "console",
                lambda message: visit.complaints.append(message.text) if message.type == "error" else None,
            )
            yield visit
        finally:
            await context.close()


@dataclass(eq=False)
class Visit:
    """One page in one window."""

    page: Page
    home: str = ""
    """Where the door is, as a URL without a path."""

    complaints: list[str] = field(default_factory=list)
    """Errors of scripts and of the console."""

    async def screenshot(self, name: str) -> Path:
        """Keep a picture of the whole page in `build/screenshots/`."""
        path = SCREENSHOTS / f"{name}.png"
        await self.page.screenshot(path=path, full_page=True)
        return path


def open_browser() -> SharedBrowser:
    """Start Debian's Chromium. The sandbox is left out: tests may run as root in a container."""

    async def start() -> tuple[Playwright, Browser]:
        playwright = await async_playwright().start()
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        return playwright, browser

    runner = asyncio.Runner()
    playwright, browser = runner.run(start())
    return SharedBrowser(runner, browser, playwright)
