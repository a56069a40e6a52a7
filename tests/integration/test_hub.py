"""Models by their Hub id, from a Hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from fake_hub import REPOSITORY, running_hub

from gridnode.engine.locate import open_checkpoint

PROGRAM = """
import json, sys
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.text import load_text_codec
from gridnode.errors import BadCheckpoint

try:
    checkpoint = open_checkpoint(sys.argv[1])
    total = sum(float(checkpoint.read(name).sum()) for name in checkpoint.block_names(int(sys.argv[2])))
except BadCheckpoint as exc:
    print(json.dumps({"error": str(exc)}))
else:
    print(json.dumps({
        "name": checkpoint.model_id.name,
        "manifest": checkpoint.model_id.manifest,
        "files": sorted({checkpoint.entry(n).weight_file for n in checkpoint.block_names(int(sys.argv[2]))}),
        "sum": total,
        "tokens": load_text_codec(checkpoint.text_dir).encode("hi"),
    }))
"""


def open_in_process(
    url: str, cache: Path, block_index: int, *, repository: str = REPOSITORY, offline: bool = False
) -> dict[str, Any]:
    """Open a model in a fresh process, whose cache is `cache`, and read one block."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HOME": str(cache / "hf"),
        "XDG_CACHE_HOME": str(cache / "xdg"),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-c", PROGRAM, repository, str(block_index)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.make_model(tmp_path / "model", max_shard_size="100KB")


def test_only_the_weight_files_of_the_span_are_fetched(model: Path, tmp_path: Path) -> None:
    local = open_checkpoint(str(model))
    with running_hub(model) as hub:
        found = open_in_process(hub.url, tmp_path / "cache", 1)
        weights = {name for name in hub.downloaded if name.endswith(".safetensors")}
    assert weights == set(found["files"]) < {entry.weight_file for entry in local.tensors.values()}
    assert found["name"] == REPOSITORY
    assert found["manifest"] == local.model_id.manifest
    assert found["sum"] == pytest.approx(sum(float(local.read(n).sum()) for n in local.block_names(1)))


def test_a_second_start_needs_no_network(model: Path, tmp_path: Path) -> None:
    """B12."""
    with running_hub(model) as hub:
        first = open_in_process(hub.url, tmp_path / "cache", 1)
    assert open_in_process("http://127.0.0.1:9", tmp_path / "cache", 1, offline=True) == first


def test_what_offline_mode_lacks_is_named(model: Path, tmp_path: Path) -> None:
    with running_hub(model) as hub:
        nothing = open_in_process(hub.url, tmp_path / "empty", 1, offline=True)
        open_in_process(hub.url, tmp_path / "cache", 1)
        assert not hub.downloaded.count("nothing")
        other = open_in_process(hub.url, tmp_path / "cache", 3, offline=True)
    assert f"'{REPOSITORY}' is neither a local directory" in nothing["error"]
    assert "cannot fetch model-" in other["error"]


def test_an_unknown_repository_is_named(model: Path, tmp_path: Path) -> None:
    with running_hub(model) as hub:
        found = open_in_process(hub.url, tmp_path / "cache", 1, repository="lab/unknown")
    assert "'lab/unknown' is neither a local directory" in found["error"]
