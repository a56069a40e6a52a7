import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gridnode import paths

SERVICE = (64007, 64008)
"""User and group of a service that runs on this computer, as systemd makes them up."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def owner(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid


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


@needs_root
def test_what_root_replaces_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(b"old")
    os.chown(path, *SERVICE)
    paths.write_atomically(path, b"new", mode=0o600)
    assert (owner(path), stat.S_IMODE(path.stat().st_mode)) == (SERVICE, 0o600)


@needs_root
def test_what_root_adds_belongs_to_whom_the_directory_does(tmp_path: Path) -> None:
    os.chown(tmp_path, *SERVICE)
    paths.write_atomically(tmp_path / "keys.json", b"new", mode=0o600)
    assert owner(tmp_path / "keys.json") == SERVICE


@needs_root
def test_root_gives_nothing_to_whoever_put_a_file_into_a_directory_of_all(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    path = tmp_path / "bundle.zip"
    path.touch()
    os.chown(path, *SERVICE)
    paths.write_atomically(path, b"new", mode=0o600)
    assert owner(path) == (0, 0)


@needs_root
def test_files_are_written_where_root_cannot_give_them_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(tmp_path, *SERVICE)

    def refuse(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(paths.os, "fchown", refuse)
    paths.write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
