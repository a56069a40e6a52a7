import json
import os
import shutil
from pathlib import Path

import pytest

from gridnode.engine import manifest
from gridnode.engine.locate import open_checkpoint


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def hash_of(directory: Path) -> str:
    return open_checkpoint(str(directory)).model_id.manifest


def test_the_hash_names_the_weights_and_not_their_place(tiny_llama: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_llama, tmp_path / "elsewhere"))
    assert hash_of(copy) == hash_of(tiny_llama)
    assert len(hash_of(copy)) == 64


def test_one_changed_byte_of_a_weight_is_another_model(tiny_llama: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_llama, tmp_path / "copy"))
    file = copy / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert hash_of(copy) != hash_of(tiny_llama)


def test_a_changed_configuration_is_another_model(tiny_llama: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_llama, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "transformers_version": "99"}))
    assert hash_of(copy) == hash_of(tiny_llama)
    (copy / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    assert hash_of(copy) != hash_of(tiny_llama)


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    first = manifest.file_hash(file)
    with monkeypatch.context() as context:
        context.setattr(manifest.hashlib, "file_digest", None)  # would fail if it were needed
        assert manifest.file_hash(file) == first
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert manifest.file_hash(file) != first
