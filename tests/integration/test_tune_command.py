"""`gridnode tune` through a swarm whose nodes are killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from served_swarm import ServedSwarm, served_swarm
from typer.testing import CliRunner, Result

from gridnode.api import text_examples
from gridnode.cli.app import create_app
from gridnode.core.ids import short
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span

pytestmark = pytest.mark.swarm

TEXTS = [
    {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me, a cat."}]},
    {"prompt": "A cat", "completion": " sat."},
    {"text": "Cats sit."},
    {"prompt": "A dog", "completion": " ran."},
]


@pytest.fixture(scope="module")
def swarm(tiny_llama: Path) -> Iterator[ServedSwarm]:
    with served_swarm(tiny_llama, [Span(0, 4), Span(0, 4)], quantization=QuantFormat.NONE) as served:
        yield served
        served.wait_nothing_leased()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    return path


def tune(swarm: ServedSwarm, model: Path, data: Path, out: Path, *arguments: str) -> Result:
    command = ["tune", str(data), "--model", str(model), "--out", str(out), "--batch", "2", "--epochs", "3"]
    command += ["--learning-rate", "0.01", *arguments, "--api", swarm.url.removeprefix("http://")]
    return CliRunner().invoke(create_app(), command)


def test_a_killed_node_changes_nothing_in_the_result(
    swarm: ServedSwarm, tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch, again and again; then a training is resumed that is over already."""
    undisturbed = tune(swarm, tiny_llama, data, tmp_path / "one", "--json")
    assert undisturbed.exit_code == 0, undisturbed.output
    steps = [json.loads(line) for line in undisturbed.stdout.splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert (tmp_path / "one" / "loss.png").exists()

    loss_of = text_examples.loss_of_examples
    calls: list[Any] = []

    def killing(model: Any, some: Any) -> torch.Tensor:
        calls.append(some)
        loss = loss_of(model, some)
        if len(calls) in (2, 5):  # behind the forward pass, before its gradients
            swarm.kill_worker(short(swarm.swarm.nodes[len(calls) % 2].peer_id))
        return loss

    monkeypatch.setattr(text_examples, "loss_of_examples", killing)
    disturbed = tune(swarm, tiny_llama, data, tmp_path / "two")
    assert disturbed.exit_code == 0, disturbed.output
    assert len(calls) == 6
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    swarm.wait_ready()

    again = tune(swarm, tiny_llama, data, tmp_path / "two", "--resume")
    assert again.exit_code == 0, again.output
    assert "going on behind step 6" in again.stderr
    assert len(calls) == 6


@pytest.mark.parametrize("method", ["prompt", "deep-prompt"])
def test_prompts_are_trained_too(
    swarm: ServedSwarm, tiny_llama: Path, data: Path, tmp_path: Path, method: str
) -> None:
    done = tune(swarm, tiny_llama, data, tmp_path / "out", "--method", method, "--vectors", "2")
    assert done.exit_code == 0, done.output
    stored = load_file(tmp_path / "out" / "prompts.safetensors")
    assert stored["prompts"].shape == (2, 64)
    assert ("deep" in stored) == (method == "deep-prompt")


def test_data_that_cannot_be_used_is_named(swarm: ServedSwarm, tiny_llama: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "fine enough"}\n{"tekst": "?"}\n')
    failed = tune(swarm, tiny_llama, data, tmp_path / "out")
    assert failed.exit_code == 2
    assert "data.jsonl:2 is no example" in failed.stderr.replace("\n", "")
