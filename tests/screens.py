"""Pictures of a screen as text, compared with files."""

from __future__ import annotations

import os
from pathlib import Path

from textual.app import App

from gridnode_dashboard.formatting import BARS

SCREENS = Path(__file__).parent / "ui" / "screens"
UPDATE = "UPDATE_SCREENS"
"""Set this variable to write the files anew; then look at their difference."""


def screen_text(app: App[None]) -> str:
    """Return what is on the screen, without colours.

    The lowest bar counts as nothing: how many of them a chart has depends on how long it was watched.
    """
    lines = [strip.text for strip in app.screen._compositor.render_strips()]
    return "".join(line.replace(BARS[0], " ").rstrip() + "\n" for line in lines)


def assert_screen(app: App[None], name: str) -> None:
    """Check that the screen looks like the file `name`."""
    path = SCREENS / f"{name}.txt"
    found = screen_text(app)
    if os.environ.get(UPDATE):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)
    assert found == path.read_text(), f"look at it, then write it anew with {UPDATE}=1"
