"""Changing one key leaves everything else as the person wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridnode.config.editing import change_file, with_value
from gridnode.config.settings import settings
from gridnode.errors import BadInput

MEMORY = settings()["limits.memory"]
TEXT = '# mine\n[limits]  # hers\n\nthreads = 2 # two\nmemory = "1GiB" # some\n[node]\nname = "Ada"\n'


def test_a_value_is_replaced_and_comments_stay() -> None:
    assert with_value(TEXT, MEMORY, 2 * 1024**3) == TEXT.replace("1GiB", "2GiB")


def test_a_key_is_added_to_its_section() -> None:
    changed = with_value(TEXT, settings()["limits.cache_tokens"], 16)
    assert changed.index("cache_tokens = 16") < changed.index("[node]")
    assert with_value("", MEMORY, 1024) == '[limits]\nmemory = "1KiB"\n'


def test_a_key_is_taken_out() -> None:
    assert "memory" not in with_value(TEXT, MEMORY, None)
    assert with_value("# mine\n", MEMORY, None) == "# mine\n"


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.toml", tmp_path / "config.toml"
    real.write_text(TEXT)
    real.chmod(0o600)
    link.symlink_to(real)
    change_file(link, MEMORY, 2 * 1024**3)
    assert link.is_symlink()
    assert "2GiB" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o600


def test_what_is_no_toml_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[limits\n")
    with pytest.raises(BadInput, match="config edit"):
        change_file(path, MEMORY, 1)
    with pytest.raises(BadInput, match="config edit"):
        with_value("limits = 3\n", MEMORY, 1)
    assert path.read_text() == "[limits\n"
