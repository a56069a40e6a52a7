"""`gridnode monitor` as a process, beside a node that it watches."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.swarm

PATIENCE_S = 60.0


@contextmanager
def started(command: str, state_dir: Path, *arguments: str) -> Iterator[dict[str, str]]:
    """Start a node that only those find who are told; yield what it told first."""
    local = ("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--no-mdns", "--state-dir", str(state_dir))
    process = subprocess.Popen(
        [sys.executable, "-m", "gridnode", command, "--json", *local, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def state_with_servers(url: str, count: int) -> dict[str, object]:
    """Return the state once it has a model with `count` online servers."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        state: dict[str, object] = httpx.get(f"{url}/api/v1/state").json()
        rows = [row for model in state["model_reports"] for row in model["server_rows"]]  # type: ignore[attr-defined]
        if sum(row["state"] == "online" for row in rows) == count:
            return state
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_monitor_shows_a_swarm_and_no_addresses(tmp_path: Path, tiny_llama: Path) -> None:
    serve = ("--model", str(tiny_llama), "--blocks", "0:2", "--threads", "1", "--name", "Ada")
    with (
        started("up", tmp_path / "node", *serve) as node,
        started("monitor", tmp_path / "monitor", "--join", node["listen"]) as monitor,
    ):
        url = f"http://{monitor['api']}"
        state = state_with_servers(url, 1)
        assert state["top_contributors"] == {"Ada": 2}
        reachable = httpx.get(f"{url}/api/v1/is_reachable/{node['peer_id']}").json()
        assert reachable["success"] is True
        page = httpx.get(url).text
        assert "Ada" in page
        for text in (page, json.dumps(state), httpx.get(f"{url}/api/v1/status").text):
            assert node["listen"] not in text
        metrics = httpx.get(f"{url}/metrics").text
        assert 'gridnode_nodes{state="online"} 2.0' in metrics
