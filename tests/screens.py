"""Pictures of a screen as text, compared with files."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
from pathlib import Path

from textual.app import App
from waiting import until

from gridnode_dashboard.formatting import BARS

SCREENS = Path(__file__).parent / "ui" / "screens"
# Layout follows events, on a busy machine with delay.
SETTLE_S = 5.0
UPDATE = "UPDATE_SCREENS"
"""Set this variable to write the files anew; then look at their difference."""


def screen_text(app: App[None]) -> str:
    """Return what is on the screen, without colours.

    The lowest bar counts as nothing: how many of them a chart has depends on how long it was watched.
    """
    lines = [strip.text for strip in app.screen._compositor.render_strips()]
    return "".join(line.replace(BARS[0], " ").rstrip() + "\n" for line in lines)


async def assert_screen(app: App[None], name: str) -> None:
    """Check that the screen comes to look like the file `name`."""
    path = SCREENS / f"{name}.txt"
    if os.environ.get(UPDATE):
        await asyncio.sleep(SETTLE_S)
        path.parent.mkdir(exist_ok=True)
        path.write_text(screen_text(app))
    wanted = path.read_text()
    with contextlib.suppress(TimeoutError):
        await until(lambda: screen_text(app) == wanted, timeout_s=SETTLE_S)
    found = screen_text(app)
    difference = "\n".join(difflib.unified_diff(wanted.splitlines(), found.splitlines(), lineterm=""))
    assert found == wanted, f"look at it, then write it anew with {UPDATE}=1:\n{difference}"
