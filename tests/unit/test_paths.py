from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gridnode import paths


def test_directories_follow_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert paths.config_dir() == tmp_path / "config/gridnode"
    assert paths.cache_dir() == tmp_path / "cache/gridnode"
    assert paths.state_dir() == tmp_path / "state/gridnode"


def test_a_file_is_replaced_as_a_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    paths.write_atomically(path, b"one", mode=0o600)
    paths.write_atomically(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    paths.write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paths.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        paths.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_many_may_write_the_same_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: paths.write_atomically(path, bytes([n]) * 1000), range(64)))
    data = path.read_bytes()
    assert data == data[:1] * 1000
    assert list(tmp_path.iterdir()) == [path]
