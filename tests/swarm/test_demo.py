"""`gridnode demo` on the real model, and what is left when it is over: nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.swarm, pytest.mark.smollm]


def start_demo(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    # Its own temporary directory shows afterwards what was left there, and marks its processes.
    return subprocess.Popen(
        ["/usr/bin/env", f"TMPDIR={tmp_path}", sys.executable, "-m", "gridnode", "demo", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_of(tmp_path: Path) -> list[str]:
    """Return the command lines of processes that have `tmp_path` as their temporary directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(tmp_path) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue  # it ended meanwhile, or belongs to somebody else
    return found


def assert_nothing_left(tmp_path: Path) -> None:
    deadline = time.monotonic() + 10
    while left := processes_of(tmp_path):
        assert time.monotonic() < deadline, left
    assert list(tmp_path.glob("gridnode-demo-*")) == []


def test_a_swarm_of_two_answers_and_leaves_nothing(tmp_path: Path) -> None:
    """B15."""
    demo = start_demo(tmp_path, "What is the capital of France?", "--nodes", "2")
    out, err = demo.communicate(timeout=200)
    assert demo.returncode == 0, err
    assert "Paris" in out
    assert re.search(r"1 +\w{8} +0:15 .*\n *2 +\w{8} +15:30 ", err), err
    assert "tokens/s" in err
    assert_nothing_left(tmp_path)


def test_ctrl_c_while_it_loads_leaves_nothing(tmp_path: Path) -> None:
    demo = start_demo(tmp_path)
    assert demo.stderr is not None
    while "starting" not in demo.stderr.readline():
        assert demo.poll() is None
    assert len(processes_of(tmp_path)) >= 4
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert_nothing_left(tmp_path)


def test_a_demo_that_is_killed_takes_its_nodes_with_it(tmp_path: Path) -> None:
    demo = start_demo(tmp_path, "--nodes", "2")
    assert demo.stderr is not None
    while "starting" not in demo.stderr.readline():
        assert demo.poll() is None
    demo.kill()
    demo.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while left := processes_of(tmp_path):
        assert time.monotonic() < deadline, left


def test_a_node_that_cannot_start_is_explained(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF but not really")
    demo = start_demo(tmp_path, "--model", str(model))
    out, err = demo.communicate(timeout=60)
    assert demo.returncode not in (0, None)
    assert out == ""
    assert "model.gguf" in err
    assert "Traceback" not in err
    assert_nothing_left(tmp_path)
