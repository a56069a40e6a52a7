"""The doctor as a program: beside a node that runs, and where the network does nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.swarm

LOOPBACK = ("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0")


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


@contextmanager
def up(*arguments: str, **env: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """Start a node that nobody else finds; yield what returns its next event."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gridnode",
            "up",
            "--json",
            "--no-mdns",
            "--threads",
            "1",
            *LOOPBACK,
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ) | env,
        text=True,
    )
    with process:
        try:
            lines = process.stdout
            assert lines is not None
            yield lambda: json.loads(lines.readline())
        finally:
            process.kill()


def test_a_node_that_runs_holds_what_it_needs(tiny_llama: Path, tmp_path: Path) -> None:
    told = ("--state-dir", str(tmp_path / "state"), "--model", str(tiny_llama))
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    bundle = tmp_path / "bundle.zip"
    with up(*told, "--name", "Ada of Nowhere", **cache) as event:
        listening = event()
        while event()["event"] != "ready":
            pass
        code, found = doctor(*told, "--no-mdns", "--api", listening["api"], "--bundle", str(bundle), **cache)
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


def test_a_door_that_wants_a_key_says_so_and_nothing_else_fails(tmp_path: Path) -> None:
    state_dir = ("--state-dir", str(tmp_path))
    with up(*state_dir, "--api-require-key") as event:
        told = (*state_dir, "--no-mdns", "--listen", "127.0.0.1:0", "--api", event()["api"])
        code, found = doctor(*told, GRIDNODE_API_KEY="")
        key = subprocess.run(
            [sys.executable, "-m", "gridnode", "keys", "create", "doctor", *state_dir],
            capture_output=True,
            text=True,
            check=True,
        )
        mended, _ = doctor(*told, GRIDNODE_API_KEY=key.stdout.strip())
    assert (code, mended) == (1, 0)
    assert {check for check, state in states(found).items() if state == "fail"} == {"node"}


LAN = (
    "ip link set lo up; ip link add lan0 type veth peer name lan1; ip addr add 192.0.2.9/24 dev lan0; "
    "ip link set lan0 up; ip link set lan1 up"
)
FIREWALL = (
    "nft 'add table inet t; add chain inet t c { type filter hook input priority 0; }; "
    "add rule inet t c meta l4proto udp drop'"
)


@pytest.mark.netlab
@pytest.mark.parametrize(
    ("network", "told"),
    [
        ("true", {"udp": "fail", "addresses": "warn", "mdns": "warn"}),
        (LAN, {"udp": "ok", "addresses": "ok", "mdns": "ok"}),
        (f"{LAN}; {FIREWALL}", {"udp": "fail", "addresses": "ok"}),
    ],
    ids=["loopback down", "lan", "firewall"],
)
def test_networks_of_their_own(tmp_path: Path, network: str, told: dict[str, str]) -> None:
    """Network namespaces, which end with the doctor."""
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in ("unshare", "nft")):
        pytest.skip("needs root, unshare and nft")
    within = ("unshare", "--net", "sh", "-c", f'{network}; exec "$@"', "sh")
    code, found = doctor("network", "--state-dir", str(tmp_path), within=within)
    assert told.items() <= states(found).items(), found
    assert code == (1 if "fail" in told.values() else 0)
    if code:
        assert found["verdict"].startswith("Not ready: 1 of 7 checks fail (udp)")


@pytest.mark.netlab
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A mount of its own, which ends with the doctor."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare")
    (tmp_path / "state").mkdir()
    mount = f'mount -t tmpfs -o size=1m tmpfs {tmp_path}/state; exec "$@"'
    within = ("unshare", "--mount", "sh", "-c", mount, "sh")
    code, found = doctor("machine", "--no-mdns", "--state-dir", str(tmp_path / "state"), within=within)
    assert code == 1
    [finding] = [finding for finding in found["findings"] if finding["state"] == "fail"]
    assert finding["check"] == "state disk"
    assert finding["measured"].endswith(f"KiB free at {tmp_path}/state, up to 64.0 MiB wanted")
    assert finding["mend"] == f"du -sh {tmp_path}/state/*"


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[serve]\nmodle = 'x'\n")
    code, found = doctor("machine", "--no-mdns", GRIDNODE_CONFIG=str(file), XDG_STATE_HOME=str(tmp_path))
    assert code == 1
    assert states(found)["configuration"] == "fail"
    [finding] = [finding for finding in found["findings"] if finding["state"] == "fail"]
    assert f"{file} line 2: there is no key serve.modle" in finding["measured"]
    assert finding["mend"] == "gridnode config edit"
