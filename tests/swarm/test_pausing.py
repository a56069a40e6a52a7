"""`gridnode pause`, `resume` and `down` on a real daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridnode.cli.pausing import find_process
from gridnode.core.addresses import Address
from gridnode.errors import BadInput

pytestmark = pytest.mark.swarm


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A node that serves nothing, and where its door is."""
    command = [sys.executable, "-m", "gridnode", "up", "--json", "--listen", "127.0.0.1:0"]
    command += ["--api", "127.0.0.1:0", "--state-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["api"]
        finally:
            process.kill()


def gridnode(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gridnode", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_node_pauses_goes_on_and_stops(daemon: tuple[subprocess.Popen[str], str]) -> None:
    process, api = daemon
    assert "paused for 2 h" in gridnode("pause", "2h", "--api", api).stderr
    shown = json.loads(gridnode("pause", "--json", "--api", api).stdout)
    assert shown == {"paused": True, "remaining_s": None, "open_sessions": 0}
    assert "paused" in gridnode("status", "--api", api).stdout
    assert "serving again" in gridnode("resume", "--api", api).stderr
    assert "it was not paused" in gridnode("resume", "--api", api).stderr
    assert gridnode("pause", "soon", "--api", api).returncode == 2

    stopped = gridnode("down", "--json", "--api", api)
    assert json.loads(stopped.stdout) == {"pid": process.pid}
    assert process.wait(timeout=10) == 0
    assert gridnode("down", "--api", api).returncode == 3


def test_only_the_process_behind_the_door_is_stopped(daemon: tuple[subprocess.Popen[str], str]) -> None:
    process, api = daemon
    host, _, port = api.partition(":")
    door = Address(host, int(port))
    assert find_process(door, process.pid).pid == process.pid
    # As behind a tunnel or in a container: the number is that of somebody else here.
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        with pytest.raises(BadInput, match="does not run on this computer"):
            find_process(door, bystander.pid)
        with pytest.raises(BadInput, match="does not run on this computer"):
            find_process(Address("192.0.2.7", door.port), process.pid)
        assert bystander.stdin is not None
        bystander.stdin.close()
    with pytest.raises(BadInput, match="does not run on this computer"):
        find_process(door, bystander.pid)
