"""`gridnode up` as a process, without a model: what it prints, and every way to stop it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.swarm

LOCAL = ("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0")


def gridnode(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gridnode", *arguments]


@contextmanager
def up(state_dir: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Start a node; yield it with what it told first."""
    process = subprocess.Popen(
        gridnode("up", "--json", *LOCAL, "--state-dir", str(state_dir), *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_gently(tmp_path: Path, number: signal.Signals) -> None:
    with up(tmp_path) as (process, told):
        assert told["event"] == "listening"
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 0
    assert "gridnode up --join " + told["listen"] in err
    assert "leaving" in err
    assert "Traceback" not in err


def test_the_end_of_standard_input_stops_it_if_told_so(tmp_path: Path) -> None:
    with up(tmp_path, "--stop-with-stdin") as (process, _):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0


@pytest.mark.skipif(not hasattr(psutil.Process, "memory_maps"), reason="this system does not tell")
def test_little_is_computed_before_it_says_where_it_is(tmp_path: Path) -> None:
    with up(tmp_path / "node") as (process, told):
        maps = [region.path for region in psutil.Process(process.pid).memory_maps()]
        assert told["api"].startswith("127.0.0.1:")
    # Not its time, which other tests and the computer share in: these take seconds to load.
    assert any("libpython" in path or "python3" in path for path in maps)
    assert not [path for path in maps if "libtorch" in path or "onnxruntime" in path]


def test_two_nodes_see_each_other_in_status(tmp_path: Path) -> None:
    with (
        up(tmp_path / "a", "--name", "Ada") as (_, a),
        up(tmp_path / "b", "--join", a["listen"], "--name", "Bo"),
    ):
        deadline = time.monotonic() + 20
        while True:
            status = subprocess.run(
                gridnode("status", "--api", a["api"]), capture_output=True, text=True, check=True
            )
            if "Bo" in status.stdout and "direct" in status.stdout:
                break
            assert time.monotonic() < deadline, status.stdout
        assert "*" + a["peer_id"][:8] in status.stdout


def test_an_identity_is_used_by_one_node_at_a_time(tmp_path: Path) -> None:
    with up(tmp_path) as (process, _):
        second = subprocess.run(
            gridnode("up", *LOCAL, "--state-dir", str(tmp_path)),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 2
        assert f"process {process.pid}" in second.stderr
        assert "--state-dir" in second.stderr
    assert (tmp_path / "identity.pem").stat().st_mode & 0o077 == 0
