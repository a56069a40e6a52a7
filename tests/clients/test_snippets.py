"""What the documents show of Python, as it stands there, with the demo model in a swarm of three nodes."""

from __future__ import annotations

import asyncio
import functools
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from served_swarm import ServedSwarm

import gridnode
from gridnode.api import auto_model
from gridnode.core.addresses import parse_address
from gridnode.engine.gguf_checkpoint import GgufCheckpoint
from gridnode.engine.gguf_text import export_text
from gridnode.errors import GridError

pytestmark = [pytest.mark.swarm, pytest.mark.smollm]

ROOT = Path(__file__).parents[2]
# As the issue that asked for this interface wrote it, and as the README of Petals has it.
SEED = """
from transformers import AutoTokenizer
from gridnode import AutoDistributedModelForCausalLM

tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoDistributedModelForCausalLM.from_pretrained(name)      # finds the local node's swarm, or join="gridnode://..."
outputs = model.generate(tokenizer("A cat sat", return_tensors="pt")["input_ids"], max_new_tokens=5)
"""


@pytest.fixture
def name(demo_model_path: Path, tmp_path: Path) -> str:
    """The demo model in a directory with its tokenizer, as `transformers` wants it."""
    for file in export_text(GgufCheckpoint(demo_model_path)).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / demo_model_path.name).symlink_to(demo_model_path)
    return str(tmp_path)


@pytest.fixture(autouse=True)
def local_node(demo_swarm: ServedSwarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node on this computer has the port that was free, not the usual one."""
    door = demo_swarm.url.removeprefix("http://")
    monkeypatch.setattr(gridnode, "connect", functools.partial(gridnode.connect, door), raising=False)
    found = auto_model.local_swarm
    monkeypatch.setattr(auto_model, "local_swarm", lambda api: found(parse_address(door)))


def blocks_of(document: str) -> list[str]:
    """Return the Python of a document, block by block."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [textwrap.dedent(block) for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)]


def test_the_seed_snippet_finds_the_swarm_and_answers(name: str) -> None:
    here: dict[str, Any] = {"name": name}
    exec(SEED, here)
    try:
        text = here["tokenizer"].decode(here["outputs"][0])
        assert text.startswith("A cat sat")
        assert here["outputs"].shape[1] == len(here["tokenizer"]("A cat sat")["input_ids"]) + 5
    finally:
        here["model"].close()


def test_the_readme_as_it_stands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    [block] = blocks_of("README.md")
    here: dict[str, Any] = {"name": name}
    exec(block, here)
    try:
        asyncio.run(here["main"]())
    finally:
        here["model"].close()
    assert len(capsys.readouterr().out) > 20


def test_the_document_of_the_interface_as_it_stands(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last block trains: the nodes of this swarm answer that they cannot, and how they could."""
    monkeypatch.chdir(tmp_path)
    asking, generating, training = blocks_of("docs/python.md")
    here: dict[str, Any] = {}
    exec(asking, here)
    assert "Paris" in capsys.readouterr().out
    there = generating.replace('"HuggingFaceTB/SmolLM2-135M-Instruct"', repr(name)).replace(
        "model.close()", ""
    )
    exec(there, here)
    assert "A cat sat" in capsys.readouterr().out
    try:
        with pytest.raises(GridError, match="--executor torch"):
            exec(training, here)
    finally:
        here["model"].close()
