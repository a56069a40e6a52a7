"""A private swarm of real daemons: invited, joined, asked, and given a new key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import eventually

from gridnode.config.swarm_file import SwarmFile
from gridnode.core.swarm_pass import SwarmPass

pytestmark = pytest.mark.swarm

# Loading torch on a busy machine takes its time.
PATIENCE_S = 150.0


@contextmanager
def up(state_dir: Path, *arguments: str, **environ: str) -> Iterator[dict[str, str]]:
    """Run a node; yield what it tells first."""
    command = [sys.executable, "-m", "gridnode", "up", "--json", "--stop-with-stdin", "--no-mdns"]
    command += ["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--state-dir", str(state_dir), *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ}
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def gridnode(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gridnode", *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def kept(state_dir: Path) -> SwarmPass:
    found = SwarmFile(state_dir).read()
    assert found is not None
    return found.swarm


def knows_model(api: str) -> bool:
    models = json.loads(gridnode("models", "--json", "--api", api).stdout or "{}").get("models")
    return bool(models) and not models[0]["gaps"]


def test_from_an_invitation_to_an_answer_and_a_new_key(tmp_path: Path, tiny_llama: Path) -> None:
    ada, bo, cem, eve = (tmp_path / name for name in ("ada", "bo", "cem", "eve"))
    first = gridnode("invite", "--private", "--state-dir", str(ada)).stdout
    (tmp_path / "link").write_text(first)
    assert gridnode("join", f"@{tmp_path / 'link'}", "--state-dir", str(bo)).returncode == 0
    chat_only = gridnode("invite", "--chat-only", "--state-dir", str(ada)).stdout
    assert gridnode("join", "-", "--state-dir", str(cem), stdin=chat_only).returncode == 0

    refused = gridnode("up", "--state-dir", str(cem), "--model", str(tiny_llama), "--listen", "127.0.0.1:0")
    assert refused.returncode == 2
    assert "is for chatting only: nobody would use the blocks" in refused.stderr

    serving = ("--model", str(tiny_llama), "--quantize", "none", "--threads", "1")
    with up(ada, *serving) as a:
        joined = ("--join", a["listen"])
        with up(bo, *joined) as b, up(cem, *joined) as c:
            for api in (b["api"], c["api"]):
                eventually(lambda api=api: knows_model(api))
                answer = gridnode("run", "--api", api, "--max-tokens", "4", "hello")
                assert answer.returncode == 0, answer.stderr

            ill = gridnode("doctor", "swarm", "--state-dir", str(eve), *joined)
            assert ill.returncode == 1
            assert "swarm key" in ill.stdout + ill.stderr
            assert "wrong key: node" in ill.stdout + ill.stderr

            rotated = gridnode("invite", "--rotate", "--state-dir", str(ada))
            assert rotated.returncode == 0, rotated.stderr
            eventually(lambda: kept(bo).keys == kept(ada).keys)
            assert len(kept(bo).keys) == 2
            # Links went on; whoever is invited now proves the new key.
            given = {"GRIDNODE_SWARM_KEY": rotated.stdout.strip()}
            with up(tmp_path / "dan", *joined, **given) as d:
                eventually(lambda: knows_model(d["api"]))
                assert not (tmp_path / "dan" / "swarm.json").exists()
