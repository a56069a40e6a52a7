"""A node as a service: what it tells the service manager, which a socket of this test stands for."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.swarm


def test_the_service_manager_hears_of_life_readiness_and_the_end(tiny_llama: Path, tmp_path: Path) -> None:
    """sd_notify(3): READY once the blocks are served and not before, WATCHDOG all the time, STOPPING."""
    command = [sys.executable, "-m", "gridnode", "up", "--model", str(tiny_llama), "--threads", "1"]
    command += ["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--state-dir", str(tmp_path / "state")]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(120)
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "300000",
        }
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
            try:
                heard = [manager.recv(4096).decode()]
                while "READY=1" not in heard[-1]:
                    heard.append(manager.recv(4096).decode())
                assert all("WATCHDOG=1" in message for message in heard)
                assert len(heard) > 1  # it lived before it was ready
                statuses = [line for message in heard for line in message.splitlines() if "STATUS" in line]
                assert "serving blocks 0:4 of 4" in statuses[-1]
                process.send_signal(signal.SIGTERM)
                while "STOPPING=1" not in heard[-1]:
                    heard.append(manager.recv(4096).decode())
                assert process.wait(timeout=60) == 0
            finally:
                process.kill()
