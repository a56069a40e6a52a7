"""The browser that the tests of a module share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from browsing import SharedBrowser, open_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[SharedBrowser]:
    """A headless Chromium; each `visiting` has its own profile and its own door."""
    if shutil.which("chromium") is None:
        pytest.skip("Debian's chromium is not installed: apt install chromium")
    shared = open_browser()
    try:
        yield shared
    finally:
        shared.close()
        shared.runner.close()
