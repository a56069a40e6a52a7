"""One node per state directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gridnode.cli.state_lock import state_lock
from gridnode.errors import BadInput


def test_a_second_node_is_refused_and_told_how_to_live(tmp_path: Path) -> None:
    with (
        state_lock(tmp_path / "new"),
        pytest.raises(BadInput, match=rf"process {os.getpid()}.*--state-dir"),
        state_lock(tmp_path / "new"),
    ):
        pass
    with state_lock(tmp_path / "new"):
        pass


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--state-dir"), state_lock(tmp_path / "file" / "dir"):
        pass
