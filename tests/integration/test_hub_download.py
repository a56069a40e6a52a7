"""Fetching weight files: broken off, resumed, damaged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
from fake_hub import COMMIT, REPOSITORY, FakeHub, running_hub, use_hub
from huggingface_hub import constants

from gridnode.engine import hub_checkpoint, hub_download
from gridnode.engine.hub_download import MAX_TRIES, WeightFile, fetch
from gridnode.engine.manifest import file_hash
from gridnode.errors import BadCheckpoint, NoCapacity

NAME = "model.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running_hub(model) as hub:
        use_hub(hub, tmp_path, monkeypatch)
        yield hub


@pytest.fixture
def file(model: Path) -> WeightFile:
    path = model / NAME
    return WeightFile(
        repository=REPOSITORY,
        commit=COMMIT,
        name=NAME,
        sha256=file_hash(path),
        size_bytes=path.stat().st_size,
    )


def test_a_dropped_connection_is_resumed_where_it_broke(hub: FakeHub, file: WeightFile, model: Path) -> None:
    hub.breaks_after_bytes = file.size_bytes // 3 + 1
    counts: list[int] = []
    path = fetch(file, on_bytes=counts.append)
    assert path.read_bytes() == (model / NAME).read_bytes()
    assert sum(counts) == file.size_bytes
    assert hub.resumed == [NAME, NAME]
    assert file.cached() == path
    assert fetch(file) == path
    assert hub.downloaded == [NAME]


def test_another_process_goes_on_where_the_first_one_ended(hub: FakeHub, file: WeightFile) -> None:
    hub.breaks_after_bytes = file.size_bytes // (MAX_TRIES + 2)
    with pytest.raises(BadCheckpoint, match="try again"):
        fetch(file)
    kept = file.fetched_bytes()
    assert kept == hub.breaks_after_bytes * MAX_TRIES
    hub.breaks_after_bytes = None
    counts: list[int] = []
    fetch(file, on_bytes=counts.append)
    assert sum(counts) == file.size_bytes - kept
    assert file.fetched_bytes() == file.size_bytes


def test_a_damaged_file_is_thrown_away(hub: FakeHub, file: WeightFile) -> None:
    hub.damages = True
    with pytest.raises(BadCheckpoint, match="damaged"):
        fetch(file)
    assert file.fetched_bytes() == 0
    hub.damages = False
    assert fetch(file).exists()


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    hub: FakeHub, file: WeightFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_download, "FREE_DISK_RESERVE_BYTES", 1 << 60)
    with pytest.raises(NoCapacity, match=r"712 KiB to fetch, but .* of room"):
        fetch(file)
    assert not hub.downloaded
    hub_download.check_room(0, directory=file.part_path.parent)


def test_a_large_fetch_is_told_once_with_its_size_its_source_and_the_room(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hub_checkpoint, "LARGE_FETCH_BYTES", 1000)
    monkeypatch.setattr(logging.getLogger("gridnode"), "propagate", True)  # commands turn it off
    for _ in range(2):
        checkpoint = hub_checkpoint.open_hub(REPOSITORY)
        checkpoint.read(checkpoint.embed_name)
    (told,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert told.getMessage().startswith(f"fetching {NAME} of {REPOSITORY}: 712 KiB from {hub.url}, ")
    assert "free on the disk" in told.getMessage()


def test_offline_mode_fetches_nothing(
    hub: FakeHub, file: WeightFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadCheckpoint, match="HF_HUB_OFFLINE"):
        fetch(file)
    assert not hub.downloaded
