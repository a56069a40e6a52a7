"""Commands that look at a running node: peers, ps, models, logs, config, and the lock of its directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import eventually

from gridnode.logs import LOG_FILE

pytestmark = pytest.mark.swarm

PATIENCE_S = 30.0


def gridnode(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gridnode", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ) | {"COLUMNS": "150"} | (env or {}),
        check=False,
    )


@contextmanager
def up(state_dir: Path, *arguments: str, env: dict[str, str] | None = None) -> Iterator[dict[str, str]]:
    """Start a node that nobody else finds; yield what it told first."""
    local = ("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--no-mdns", "--state-dir", str(state_dir))
    process = subprocess.Popen(
        [sys.executable, "-m", "gridnode", "up", "--json", *local, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ) | (env or {}),
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def node(state_dir: Path, tiny_llama: Path) -> Iterator[dict[str, str]]:
    """A node that serves blocks of a tiny model, and another one beside it."""
    tiny = (
        "--model",
        str(tiny_llama),
        "--blocks",
        "0:2",
        "--cache-tokens",
        "256",
        "--threads",
        "1",
        "--log-level",
        "debug",
    )
    other_dir = state_dir.with_name(f"{state_dir.name}-other")
    with up(state_dir, *tiny) as told, up(other_dir, "--join", told["listen"], "--name", "Bo"):
        eventually(lambda: len(status(told)["peers"]) == 2 and status(told)["engine"]["state"] == "ready")
        yield told


def status(told: dict[str, str]) -> dict[str, list[object] | dict[str, str]]:
    found: dict[str, list[object] | dict[str, str]] = json.loads(
        gridnode("status", "--json", "--api", told["api"]).stdout
    )
    return found


def test_peers_are_shown_with_their_ways(node: dict[str, str]) -> None:
    shown = gridnode("peers", "--api", node["api"]).stdout
    assert "direct" in shown
    assert "Bo" in shown
    found = json.loads(gridnode("peers", "--json", "--api", node["api"]).stdout)["peers"]
    assert [peer["is_self"] for peer in found] == [True, False]
    assert found[0]["peer_id"] == node["peer_id"]


def test_ps_shows_what_is_loaded(node: dict[str, str]) -> None:
    shown = gridnode("ps", "--api", node["api"]).stdout
    assert "0:2 of 4" in shown
    assert "256 of 256 tokens free" in shown
    found = json.loads(gridnode("ps", "--json", "--api", node["api"]).stdout)
    assert found["engine"]["state"] == "ready"
    assert (found["serving"]["start"], found["serving"]["end"]) == (0, 2)
    assert found["sessions"] == []


def test_models_shows_the_gap_and_how_to_fill_it(node: dict[str, str]) -> None:
    shown = gridnode("models", "--api", node["api"]).stdout
    assert "--blocks 2:4" in shown
    (found,) = json.loads(gridnode("models", "--json", "--api", node["api"]).stdout)["models"]
    assert found["gaps"] == [[2, 4]]


def test_logs_has_lines_of_the_node_and_of_its_engine_worker(node: dict[str, str], state_dir: Path) -> None:
    found = gridnode("logs", "--state-dir", str(state_dir), "--json", "-n", "1000").stdout
    records = [json.loads(line) for line in found.splitlines()]
    assert len({record["pid"] for record in records}) == 2
    assert any(record["message"].startswith("loaded blocks 0:2") for record in records)
    shown = gridnode("logs", "--state-dir", str(state_dir)).stdout
    assert "INFO    gridnode." in shown
    assert not shown.startswith("{")


def test_a_second_node_on_the_same_directory_names_the_process_that_holds_it(tmp_path: Path) -> None:
    with up(tmp_path) as told:
        second = gridnode(
            "up", "--state-dir", str(tmp_path), "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"
        )
        assert second.returncode == 2
        assert f"process {told['pid']}" in second.stderr
        os.kill(int(told["pid"]), signal.SIGKILL)  # leaves the lock file behind, but not the lock
    with up(tmp_path) as told:
        assert told["event"] == "listening"


def test_standard_error_is_json_if_that_was_asked_for(tmp_path: Path) -> None:
    local = ("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--no-mdns", "--state-dir", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-m", "gridnode", "up", "--json", "--log-format", "json", *local],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE_S)
    messages = [json.loads(line)["message"] for line in err.splitlines()]
    assert any(message.startswith("listen ") for message in messages)
    assert any(message.startswith("leaving ") for message in messages)


def test_a_reload_takes_over_what_is_live_and_tells_of_the_rest(tmp_path: Path) -> None:
    file, log = tmp_path / "config.toml", tmp_path / "state" / LOG_FILE
    file.write_text("[node]\nname = 'Ada'\n")

    def name() -> str:
        return str(status(told)["public_name"])

    def reload(text: str) -> None:
        file.write_text(text)
        os.kill(int(told["pid"]), signal.SIGHUP)

    with up(tmp_path / "state", env={"GRIDNODE_CONFIG": str(file)}) as told:
        assert name() == "Ada"
        reload("[node]\nname = 'Bo'\n[limits]\nthreads = 1\n")
        eventually(lambda: name() == "Bo")
        assert "limits.threads has changed; it counts from the next start on" in log.read_text()
        hour = time.localtime().tm_hour
        reload(f"[node]\nname = 'Bo'\n[when]\nhours = '{(hour + 2) % 24}-{(hour + 3) % 24}'\n")
        eventually(lambda: status(told)["state"] == "paused")
        [paused] = status(told)["peers"]
        assert paused["pause_reason"].startswith("outside its hours, ")
        shown = gridnode("status", "--api", told["api"]).stdout
        assert "paused until that changes: outside its hours, " in shown
        told_more = gridnode("resume", "--api", told["api"]).stderr
        assert "'gridnode config show' tells [when] it serves" in told_more
        reload("[node]\nname = 'Bo'\n")
        eventually(lambda: status(told)["state"] == "online")
        reload("[node]\nnam = 'Cy'\n")
        eventually(lambda: "did you mean node.name?" in log.read_text())
        assert name() == "Bo"
