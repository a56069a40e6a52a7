"""Chat and monitor in a real terminal of 80x24, with the node that the chat starts and the demo model."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.swarm,
    pytest.mark.smollm,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux: apt install tmux"),
]

TIMEOUT_S = 90.0


class Terminal:
    """A tmux server of its own, with one session of 80x24 for each program."""

    def __init__(self, socket: Path, environ: dict[str, str]) -> None:
        self._socket = socket
        self._environ = environ
        self._shown = ""

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-f", os.devnull, "-S", str(self._socket), *arguments]
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, check=True)
        return done.stdout

    def start(self, command: str) -> None:
        """Start `gridnode command` and look at it."""
        line = f"{shlex.join([sys.executable, '-m', 'gridnode', command])}; echo exit code $?; exec cat"
        self.tmux("new-session", "-d", "-s", command, "-x", "80", "-y", "24", line)
        self.show(command)

    def show(self, command: str) -> None:
        """Look at what was started before."""
        self._shown = command

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", self._shown, *keys)

    def wait(self, holds: Callable[[str], bool]) -> str:
        """Return the screen once `holds` does."""
        deadline = time.monotonic() + TIMEOUT_S
        while not holds(screen := self.tmux("capture-pane", "-p", "-t", self._shown)):
            assert time.monotonic() < deadline, f"the screen does not change:\n{screen}"
            time.sleep(0.05)
        return screen


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal whose programs use a door of their own, loopback only and a state directory of their own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = {
        **os.environ,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "GRIDNODE_CONFIG": str(tmp_path / "none.toml"),
        "GRIDNODE_API_ADDRESS": f"127.0.0.1:{port}",
        "GRIDNODE_SWARM_LISTEN": "127.0.0.1:0",
        "GRIDNODE_SWARM_MDNS": "false",
        "GRIDNODE_LIMITS_THREADS": "1",
    }
    environ.pop("TMUX", None)
    shown = Terminal(tmp_path / "tmux", environ)
    shown.tmux("start-server", ";", "set-option", "-g", "exit-empty", "off")
    try:
        yield shown
    finally:
        shown.tmux("kill-server")


@pytest.mark.usefixtures("demo_model_path")
def test_chat_starts_a_node_and_answers_while_top_watches(screen: Terminal) -> None:
    screen.start("chat")
    screen.wait(lambda text: "Start a node with SmolLM2" in text)
    screen.press("Enter")
    screen.wait(lambda text: "0:30" in text)  # the route is in the header
    screen.press("What is the capital of France?", "Enter")
    screen.wait(lambda text: "Paris" in text and "first after" in text)
    screen.press("Write a very long story.", "Enter")
    screen.wait(lambda text: "writing," in text and "Esc cancels" in text)
    screen.press("Escape")
    screen.wait(lambda text: "cancelled" in text)

    screen.start("top")
    swarm = screen.wait(lambda text: "online" in text and "copies" in text)
    assert "1" * 30 in swarm
    assert all(len(line) <= 80 for line in swarm.splitlines())
    screen.press("5")
    screen.wait(lambda text: "loaded blocks 0:30" in text)

    screen.show("chat")
    screen.press("Up")
    screen.wait(lambda text: "│ Write a very long story." in text)
    screen.press("C-c")
    assert "Traceback" not in screen.wait(lambda text: "exit code 0" in text)

    screen.show("top")
    screen.wait(lambda text: "no node answers" in text)  # it ended with the chat
    screen.press("q")
    assert "Traceback" not in screen.wait(lambda text: "exit code 0" in text)
