"""The disk that quantized blocks take is limited."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gridnode.engine.block_cache import blocks_dir, shrink_block_cache

HOLD = "import sys; from gridnode.engine.model_use import use_for_good; use_for_good('old'); print(); input()"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for age_s, name in enumerate(["new", "middle", "old"]):
        directory = blocks_dir() / name
        directory.mkdir(parents=True)
        (directory / "block-0").write_bytes(b"x" * 1000)
        os.utime(directory, (1e9 - age_s, 1e9 - age_s))


def models() -> set[str]:
    return {path.name for path in blocks_dir().iterdir()}


@pytest.mark.parametrize(
    ("limit_bytes", "kept"),
    [(3000, {"new", "middle", "old"}), (2999, {"new", "middle"}), (1000, {"new"}), (0, set())],
)
def test_the_least_recently_used_go_first(limit_bytes: int, kept: set[str]) -> None:
    shrink_block_cache(limit_bytes)
    assert models() == kept


def test_what_another_process_uses_stays() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        user.stdout.readline()
        shrink_block_cache(1000)
        assert models() == {"old"}
        user.communicate("\n")
    shrink_block_cache(0)
    assert models() == set()


def test_without_a_cache_there_is_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    shrink_block_cache(0)
