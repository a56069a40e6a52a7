"""The doctor as a program: beside a node that runs, and where the network does nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.swarm


def doctor(*arguments: str, within: tuple[str, ...] = (), **env: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the diagnosis."""
    done = subprocess.run(
        [*within, sys.executable, "-m", "gridnode", "doctor", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ) | env,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def states(diagnosis: dict[str, Any]) -> dict[str, str]:
    return {finding["check"]: finding["state"] for finding in diagnosis["findings"]}


def test_a_node_that_runs_holds_what_it_needs(tiny_llama: Path, tmp_path: Path) -> None:
    api = ("--state-dir", str(tmp_path / "state"), "--no-mdns", "--model", str(tiny_llama))
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-m", "gridnode", "up", "--json", "--name", "Ada of Nowhere", *api, "--threads", "1",
         "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ) | cache,
        text=True,
    )  # fmt: skip
    with process:
        try:
            assert process.stdout is not None
            listening = json.loads(process.stdout.readline())
            while json.loads(process.stdout.readline())["event"] != "ready":
                pass
            bundle = tmp_path / "bundle.zip"
            told = (*api, "--api", listening["api"], "--bundle", str(bundle))
            code, found = doctor(*told, **cache)
        finally:
            process.kill()
    assert code == 0, found
    assert found["verdict"].startswith("The node that runs is ready: serving 4 blocks")
    held = [finding for finding in found["findings"] if f"process {listening['pid']}" in finding["measured"]]
    assert {finding["check"] for finding in held} == {"state directory", "udp port", "door", "node"}
    assert states(found)["gaps"] == "ok"
    with zipfile.ZipFile(bundle) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert "status.json" in texts
    for secret in ("Ada of Nowhere", listening["peer_id"], listening["peer_id"][:8]):
        assert not any(secret in text for text in texts.values())


@pytest.mark.netlab
def test_without_udp_the_network_fails(tmp_path: Path) -> None:
    """A network namespace of its own, whose loopback is down."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare")
    code, found = doctor("network", "--state-dir", str(tmp_path), within=("unshare", "--net"))
    assert code == 1
    assert states(found)["udp"] == "fail"
    assert found["verdict"].startswith("Not ready: 1 of 5 checks fail (udp)")


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[serve]\nmodle = 'x'\n")
    code, found = doctor("machine", "--no-mdns", GRIDNODE_CONFIG=str(file), XDG_STATE_HOME=str(tmp_path))
    assert code == 1
    assert states(found)["configuration"] == "fail"
    [finding] = [finding for finding in found["findings"] if finding["state"] == "fail"]
    assert f"{file} line 2: there is no key serve.modle" in finding["measured"]
    assert finding["mend"] == "gridnode config edit"
