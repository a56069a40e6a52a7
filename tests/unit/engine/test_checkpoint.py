import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.checkpoint import block_of, is_tied
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.requests import EngineConfig
from gridnode.engine.select import build_executor
from gridnode.errors import BadCheckpoint


@pytest.fixture
def copy(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "copy"))


@pytest.fixture
def sharded_copy(tiny_llama_mha: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama_mha, tmp_path / "copy"))


def test_facts_are_read_without_weights(tiny_llama: Path) -> None:
    facts = open_checkpoint(str(tiny_llama)).facts
    assert (facts.family, facts.num_blocks, facts.hidden_size) == ("llama", 4, 64)
    assert (facts.num_heads, facts.num_kv_heads, facts.head_dim) == (4, 2, 16)
    assert facts.block_params == 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128 + 2 * 64


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_llama_mha"])
def test_tensors_are_those_of_transformers(model: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(model)
    expected = AutoModelForCausalLM.from_pretrained(path).state_dict()
    checkpoint = open_checkpoint(str(path))
    assert checkpoint.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert np.array_equal(checkpoint.read(name), tensor.numpy())


def test_half_precision_is_read_as_it_is_stored(copy: Path) -> None:
    file = copy / "model.safetensors"
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    read = open_checkpoint(str(copy)).read("model.norm.weight")
    assert read.dtype.name == "bfloat16"
    assert np.array_equal(read.astype(np.float32), tensors["model.norm.weight"].float().numpy())


def test_reading_a_block_opens_only_its_weight_files(sharded_copy: Path) -> None:
    checkpoint = open_checkpoint(str(sharded_copy))
    needed = {checkpoint.entry(name).weight_file for name in checkpoint.block_names(0)}
    others = {entry.weight_file for entry in checkpoint.tensors.values()} - needed
    assert others
    for weight_file in others:
        (sharded_copy / weight_file).unlink()
    for name in checkpoint.block_names(0):
        checkpoint.read(name)


def test_tied_embeddings_serve_as_head(tmp_path: Path) -> None:
    path = tiny_models.make_model(tmp_path / "tied", tie_word_embeddings=True)
    checkpoint = open_checkpoint(str(path))
    assert checkpoint.head_name == checkpoint.embed_name == "model.embed_tokens.weight"


def test_blocks_are_told_from_the_rest() -> None:
    assert block_of("model.layers.17.mlp.up_proj.weight") == 17
    assert block_of("transformer.h.3.ln_1.weight") == 3
    assert block_of("model.norm.weight") is None


def cut_in_half(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def garble_header(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 2**40) + file.read_bytes()[8:])


def drop_config(directory: Path) -> None:
    (directory / "config.json").unlink()


def drop_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def empty_config(directory: Path) -> None:
    (directory / "config.json").write_text("{}")


def list_config(directory: Path) -> None:
    (directory / "config.json").write_text("[1, 2]")


def drop_block(directory: Path) -> None:
    file = directory / "model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if ".layers.2." not in n}, file)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (cut_in_half, r"model\.safetensors \(\d+ bytes\).*fetch it again"),
        (garble_header, r"model\.safetensors \(\d+ bytes\).*fetch it again"),
        (drop_config, r"config\.json"),
        (drop_weights, r"neither model\.safetensors nor model\.safetensors\.index\.json.*GGUF"),
        (empty_config, r"no num_hidden_layers"),
        (list_config, r"holds a list"),
        (drop_block, r"no tensors of block 2 of 4.*fetch it again"),
    ],
)
def test_damage_is_named_with_what_to_do(copy: Path, damage: Callable[[Path], None], text: str) -> None:
    damage(copy)
    with pytest.raises(BadCheckpoint, match=text):
        read_all_names(copy)


def read_all_names(directory: Path) -> None:
    checkpoint = open_checkpoint(str(directory))
    for block_index in range(checkpoint.facts.num_blocks):
        checkpoint.block_names(block_index)


def test_a_missing_weight_file_is_named(sharded_copy: Path) -> None:
    victim = sorted(sharded_copy.glob("model-*.safetensors"))[1]
    victim.unlink()
    with pytest.raises(BadCheckpoint, match=victim.name):
        open_checkpoint(str(sharded_copy))


def test_tensors_that_the_index_promises_must_be_there(sharded_copy: Path) -> None:
    index = sharded_copy / "model.safetensors.index.json"
    record = json.loads(index.read_text())
    record["weight_map"]["model.layers.9.mlp.up_proj.weight"] = next(iter(record["weight_map"].values()))
    index.write_text(json.dumps(record))
    with pytest.raises(BadCheckpoint, match=r"lacks 1 of \d+ tensors.*layers\.9"):
        open_checkpoint(str(sharded_copy))


def test_an_unknown_tensor_is_named(tiny_llama: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"no tensor 'model\.nonsense'"):
        open_checkpoint(str(tiny_llama)).read("model.nonsense")


def test_a_model_whose_name_cannot_be_shown_is_to_be_renamed(copy: Path) -> None:
    with pytest.raises(BadCheckpoint, match="cannot be shown: rename its file or directory"):
        open_checkpoint(str(copy.rename(copy.with_name("tab\there"))))


def test_a_place_without_a_model_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"there is no model at .*Hub id like"):
        open_checkpoint(str(tmp_path / "nowhere" / "at" / "all"))
    (tmp_path / "file.bin").write_bytes(b"x")
    with pytest.raises(BadCheckpoint, match="not a GGUF file"):
        open_checkpoint(str(tmp_path / "file.bin"))


def without(directory: Path, part: str) -> None:
    file = directory / "model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if part not in n}, file)


@pytest.mark.parametrize("quantization", [QuantFormat.NONE, QuantFormat.INT8])
@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("model.norm", r"no final norm among its \d+ tensors.*fetch it again"),
        ("lm_head", r"no head among its \d+ tensors.*fetch it again"),
        ("layers.3.mlp.down_proj", r"fetch (it|the checkpoint) again"),
    ],
)
def test_no_executor_loads_an_incomplete_span(
    copy: Path, part: str, text: str, quantization: QuantFormat
) -> None:
    """One that is missing its head must not answer with the embeddings in its place."""
    without(copy, part)
    config = EngineConfig(location=str(copy), span=Span(2, 4), quantization=quantization, num_threads=1)
    with pytest.raises(BadCheckpoint, match=text):
        build_executor(config, open_checkpoint(str(copy)), on_block=lambda: None)


@pytest.mark.parametrize("family", ["llama", "gemma", "smollm3"])
def test_the_family_decides_whether_a_missing_head_is_tied(family: str) -> None:
    assert is_tied({"model_type": family}) == AutoConfig.for_model(family).tie_word_embeddings
    assert is_tied({"model_type": family, "tie_word_embeddings": True})
    assert not is_tied({"model_type": family, "tie_word_embeddings": False})


def test_weights_that_others_quantized_are_refused(copy: Path) -> None:
    file = copy / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"] = tensors["model.layers.1.mlp.up_proj.weight"].int()
    save_file(tensors, file)
    with pytest.raises(
        BadCheckpoint, match=r"up_proj\.weight' in .* holds int32 values.*unquantized checkpoint"
    ):
        open_checkpoint(str(copy)).read("model.layers.1.mlp.up_proj.weight")


@pytest.mark.parametrize("size", [0, 3, 1000])
def test_garbage_is_no_gguf(tmp_path: Path, size: int) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUFxyz"[:size].ljust(size, b"\1"))
    with pytest.raises(BadCheckpoint, match=rf"x\.gguf \({size} bytes\)"):
        open_checkpoint(str(tmp_path / "x.gguf"))


@pytest.mark.smollm
def test_gguf_weights_equal_those_that_transformers_reads(demo_model_path: Path) -> None:
    expected = AutoModelForCausalLM.from_pretrained(demo_model_path.parent, gguf_file=demo_model_path.name)
    state = expected.state_dict()
    checkpoint = open_checkpoint(str(demo_model_path))
    assert state.keys() - checkpoint.tensors.keys() == {"lm_head.weight"}  # tied
    for name in checkpoint.tensors:
        assert np.array_equal(checkpoint.read(name), state[name].numpy())
    for key in (
        "hidden_size",
        "num_key_value_heads",
        "rms_norm_eps",
        "max_position_embeddings",
        "vocab_size",
    ):
        assert checkpoint.config[key] == getattr(expected.config, key)


@pytest.mark.smollm
def test_a_truncated_gguf_is_named(demo_model_path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    for size in (1_000_000, 50_000_000):
        with demo_model_path.open("rb") as whole:
            cut.write_bytes(whole.read(size))
        with pytest.raises(BadCheckpoint, match=rf"cut\.gguf \({size} bytes\).*fetch it again"):
            open_checkpoint(str(cut))


def test_weights_that_are_quantized_already_are_refused_before_they_are_read(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(BadCheckpoint, match=r"quantized \(fp8\); .*use the unquantized checkpoint"):
        open_checkpoint(str(copy))


def test_weights_of_eight_bit_floats_are_refused(copy: Path) -> None:
    """Where the configuration says nothing of them."""
    file = copy / "model.safetensors"
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(file).items()}, file)
    with pytest.raises(BadCheckpoint, match="other values than floats of 16 bits or more"):
        open_checkpoint(str(copy)).read("model.norm.weight")
