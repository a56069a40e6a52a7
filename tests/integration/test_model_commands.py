"""`gridnode show`, `pull`, `list` and `rm`, with a Hub on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from fake_hub import COMMIT, REPOSITORY, FakeHub, running_hub, use_hub
from huggingface_hub import constants, hf_api
from typer.testing import CliRunner, Result

from gridnode.cli import rm_command
from gridnode.cli.app import create_app
from gridnode.engine import hub_download
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.model_use import using
from gridnode.paths import cache_dir


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tiny_models.make_model(
        tmp_path_factory.mktemp("model") / "tiny", num_key_value_heads=4, max_shard_size="100KB"
    )
    (directory / "README.md").write_text("---\nlicense: other\nlicense_name: tiny-1\n---\n# Tiny\n")
    return directory


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running_hub(model) as hub:
        use_hub(hub, tmp_path, monkeypatch)
        yield hub


def gridnode(*arguments: str) -> Result:
    return CliRunner().invoke(create_app(), arguments)


def records(*arguments: str) -> dict[str, Any]:
    done = gridnode(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_show_fetches_no_weights_and_knows_shape_sizes_and_licence(hub: FakeHub) -> None:
    found = records("show", REPOSITORY)
    assert (found["family"], found["num_blocks"], found["licence"]) == ("llama", 4, "tiny-1")
    assert found["memory_bytes"]["none"] > found["memory_bytes"]["int8"] > found["memory_bytes"]["int4"]
    assert not [name for name in hub.downloaded if name.endswith(".safetensors")]
    assert "tiny-1" in gridnode("show", REPOSITORY).stdout


def test_show_reads_directories_and_gguf_files(demo_model_path: Path, model: Path) -> None:
    assert records("show", str(model))["num_kv_heads"] == 4
    found = records("show", str(demo_model_path))
    assert (found["num_blocks"], found["has_chat_template"], found["licence"]) == (30, True, "apache-2.0")


def test_a_model_is_pulled_in_parts_listed_and_removed(hub: FakeHub) -> None:
    assert records("list") == {"models": []}
    part = records("pull", REPOSITORY, "--blocks", "1:2")
    assert (part["commit"], part["fetched_bytes"]) == (COMMIT, part["total_bytes"])
    (listed,) = records("list")["models"]
    assert listed["weight_files"] == part["weight_files"] < listed["total_weight_files"]
    assert not listed["complete"]
    whole = records("pull", REPOSITORY)
    assert whole["fetched_bytes"] == whole["total_bytes"] - part["total_bytes"]
    assert records("list")["models"][0]["complete"]
    again = gridnode("pull", REPOSITORY)
    assert "everything is here already" in again.stderr
    made_of_it = cache_dir() / "blocks" / open_checkpoint(REPOSITORY).model_id.manifest / "block"
    made_of_it.parent.mkdir(parents=True)
    made_of_it.write_bytes(b"x" * 1000)
    assert records("list")["models"][0]["quantized_bytes"] == 1000
    assert records("rm", REPOSITORY, "--yes")["freed_bytes"] > whole["total_bytes"] + 1000
    assert records("list") == {"models": []}
    assert not made_of_it.exists()


def test_what_will_be_fetched_and_the_room_for_it_are_told_first(hub: FakeHub) -> None:
    told = gridnode("pull", REPOSITORY).stderr
    assert f"{hub.url}/{REPOSITORY}" in told
    assert "not here yet" in told
    assert "GiB free" in told


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_download, "FREE_DISK_RESERVE_BYTES", 1 << 60)
    done = gridnode("pull", REPOSITORY)
    assert done.exit_code == 5
    assert "HF_HOME" in done.stderr
    assert not [name for name in hub.downloaded if name.endswith(".safetensors")]


def test_a_model_in_use_is_not_removed(hub: FakeHub) -> None:
    gridnode("pull", REPOSITORY)
    with using(REPOSITORY):
        done = gridnode("rm", REPOSITORY, "--yes")
    assert done.exit_code == 2
    assert "stop it first" in done.stderr
    assert records("list")["models"][0]["complete"]


def test_nobody_to_ask_means_no(hub: FakeHub) -> None:
    gridnode("pull", REPOSITORY)
    done = gridnode("rm", REPOSITORY)
    assert done.exit_code == 2
    assert "--yes" in done.stderr


@pytest.mark.parametrize(("answer", "code", "told"), [("n\n", 1, "nothing was removed"), ("", 130, "")])
def test_who_is_asked_may_say_no(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, told: str
) -> None:
    gridnode("pull", REPOSITORY)
    monkeypatch.setattr(rm_command, "_is_somebody_here", lambda: True)
    done = CliRunner().invoke(create_app(), ["rm", REPOSITORY], input=answer)
    assert done.exit_code == code
    assert told in done.stderr
    assert records("list")["models"][0]["complete"]


def test_without_a_network_it_says_so(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_api.api, "endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    done = gridnode("pull", REPOSITORY)
    assert done.exit_code == 1
    assert "can be reached now" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["pull", "nothing"], "not a Hub id"),
        (["pull", REPOSITORY, "--blocks", "2:9"], "has blocks 0:4"),
        (["pull", "lab/other"], "lab/other"),
        (["rm", "lab/other", "--yes"], "gridnode list"),
        (["show", "nothing"], "there is no model"),
    ],
)
def test_mistakes_are_told(hub: FakeHub, arguments: list[str], complaint: str) -> None:
    done = gridnode(*arguments)
    assert done.exit_code in (1, 2)
    assert complaint in done.stderr
    assert done.stdout == ""
