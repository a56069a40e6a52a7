"""Chat and monitor in a real terminal of 80x24, with a node and the demo model."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.swarm,
    pytest.mark.smollm,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux: apt install tmux"),
]

TIMEOUT_S = 90.0


class Terminal:
    """One tmux session of 80x24 with a server of its own."""

    def __init__(self, socket: Path, environ: dict[str, str]) -> None:
        self._socket = socket
        self._environ = environ

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-f", os.devnull, "-S", str(self._socket), *arguments]
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, check=True)
        return done.stdout

    def start(self, *arguments: str) -> None:
        command = shlex.join([sys.executable, "-m", "gridnode", *arguments])
        self.tmux("new-session", "-d", "-x", "80", "-y", "24", f"{command}; echo exit code $?; exec cat")

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def wait(self, holds: Callable[[str], bool]) -> str:
        """Return the screen once `holds` does."""
        deadline = time.monotonic() + TIMEOUT_S
        while not holds(screen := self.tmux("capture-pane", "-p")):
            assert time.monotonic() < deadline, f"the screen does not change:\n{screen}"
            time.sleep(0.05)
        return screen


@contextmanager
def terminal(directory: Path, api: str) -> Iterator[Terminal]:
    environ = {**os.environ, "XDG_STATE_HOME": str(directory / "state"), "GRIDNODE_API_ADDRESS": api}
    environ.pop("TMUX", None)
    shown = Terminal(directory / "tmux", environ)
    try:
        yield shown
    finally:
        shown.tmux("kill-server")


@contextmanager
def node(directory: Path, model: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start a node; yield its door and its process."""
    command = [sys.executable, "-m", "gridnode", "up", "--json", "--model", str(model), "--threads", "1"]
    command += ["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--state-dir", str(directory)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split('"api": "')[1].split('"')[0], process
        finally:
            process.terminate()


def test_chat_and_top_work_in_a_small_terminal(tmp_path: Path, demo_model_path: Path) -> None:
    with (
        node(tmp_path / "state" / "gridnode", demo_model_path) as (api, process),
        terminal(tmp_path, api) as screen,
    ):
        screen.start("chat")
        screen.wait(lambda text: "0:30" in text)  # the route is in the header
        screen.press("What is the capital of France?", "Enter")
        screen.wait(lambda text: "Paris" in text and "first after" in text)
        screen.press("Write a very long story.", "Enter")
        screen.wait(lambda text: "writing," in text and "Esc cancels" in text)
        screen.press("Escape")
        screen.wait(lambda text: "cancelled" in text)
        screen.press("Up")
        screen.wait(lambda text: "│ Write a very long story." in text)
        screen.press("C-c")
        assert "Traceback" not in screen.wait(lambda text: "exit code 0" in text)
        screen.tmux("kill-session")

        screen.start("top")
        swarm = screen.wait(lambda text: "online" in text and "copies" in text)
        assert "1" * 30 in swarm
        assert all(len(line) <= 80 for line in swarm.splitlines())
        screen.press("5")
        screen.wait(lambda text: "loaded blocks 0:30" in text)
        process.terminate()
        screen.wait(lambda text: "no node answers" in text)
        screen.press("q")
        assert "Traceback" not in screen.wait(lambda text: "exit code 0" in text)
