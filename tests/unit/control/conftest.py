"""What tests of the door share."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridnode.control.key_file import KeyFile


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    """Return the file of a node without keys."""
    return KeyFile(tmp_path)
