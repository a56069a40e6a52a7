"""Files of the block cache that a crash or a full disk cut off."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gridnode.core.models import QuantFormat
from gridnode.engine.block_cache import BlockCache, blocks_dir, damaged_files
from gridnode.engine.locate import open_checkpoint

PARTS = {"q": ["model.layers.0.self_attn.q_proj.weight"]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize("damage", [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]", None])
def test_a_damaged_file_is_noticed_and_made_again(tiny_llama: Path, damage: bytes | None) -> None:
    checkpoint = open_checkpoint(str(tiny_llama))
    manifest = checkpoint.model_id.manifest
    blocks = BlockCache(checkpoint, QuantFormat.INT8)
    before = blocks.matrices("block-0", PARTS)
    [file] = (blocks_dir() / manifest).glob("*.safetensors")
    whole = file.read_bytes()
    assert damaged_files(manifest) == ()

    if damage is None:
        os.truncate(file, len(whole) - 1)
    else:
        file.write_bytes(damage)
    assert damaged_files(manifest) == (file,)
    assert blocks.matrices("block-0", PARTS) == before
    assert file.read_bytes() == whole
    assert damaged_files(manifest) == ()
